//! kryoptic, a PKCS#11 token in software, as a module that can be loaded: the second kind of token that the tests run
//! against, beside SoftHSM.
//!
//! Its return codes, its defaults for attributes and its rules for templates differ from SoftHSM's, so what passes on
//! both is not made for one vendor. kryoptic's own crate for the module is not on crates.io; its library, which is,
//! lacks only the three symbols by which a PKCS#11 program enters a module. They are here, and nothing else.
//! `scripts/kryoptic.sh` builds it. It is test equipment and is not shipped.
//!
//! The functions are safe for the compiler because kryoptic's are. What they do with their pointers is laid down by
//! the standard, and it is the caller's business to pass valid ones, as with every PKCS#11 module.

use kryoptic_lib::fns::general::{fn_get_function_list, fn_get_interface, fn_get_interface_list};
use kryoptic_lib::pkcs11::{
    CK_FLAGS, CK_FUNCTION_LIST_PTR_PTR, CK_INTERFACE_PTR, CK_INTERFACE_PTR_PTR, CK_RV, CK_ULONG_PTR, CK_UTF8CHAR_PTR,
    CK_VERSION_PTR,
};

/// The functions of PKCS#11 2.40, where every program begins.
// SAFETY: the name is the one that the standard lays down for this signature; no other definition is linked.
#[unsafe(no_mangle)]
pub extern "C" fn C_GetFunctionList(list: CK_FUNCTION_LIST_PTR_PTR) -> CK_RV {
    fn_get_function_list(list)
}

/// The interfaces, one per version of the standard.
// SAFETY: as above.
#[unsafe(no_mangle)]
pub extern "C" fn C_GetInterfaceList(interfaces: CK_INTERFACE_PTR, count: CK_ULONG_PTR) -> CK_RV {
    fn_get_interface_list(interfaces, count)
}

/// One interface by name and version.
// SAFETY: as above.
#[unsafe(no_mangle)]
pub extern "C" fn C_GetInterface(
    name: CK_UTF8CHAR_PTR,
    version: CK_VERSION_PTR,
    interface: CK_INTERFACE_PTR_PTR,
    flags: CK_FLAGS,
) -> CK_RV {
    fn_get_interface(name, version, interface, flags)
}
