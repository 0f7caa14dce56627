//! The real module behind this one.

use cryptoki_sys::{CK_FUNCTION_LIST, CK_RV, CKR_FUNCTION_FAILED};
use libloading::Library;
use std::sync::Once;

/// Tries everything, then hands the real module's functions out.
///
/// # Safety
///
/// `list` is a pointer to write to, as the standard has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    static ONCE: Once = Once::new();
    ONCE.call_once(super::attack);
    let Some(real) = std::env::var_os("HOSTILE_MODULE") else { return CKR_FUNCTION_FAILED };
    // SAFETY: loading a module runs its initialisers. Whoever names it wants that.
    let Ok(library) = (unsafe { Library::new(real) }) else { return CKR_FUNCTION_FAILED };
    // SAFETY: the standard gives this symbol this type.
    let found =
        unsafe { library.get::<unsafe extern "C" fn(*mut *mut CK_FUNCTION_LIST) -> CK_RV>(b"C_GetFunctionList\0") };
    let Ok(real) = found.map(|function| *function) else { return CKR_FUNCTION_FAILED };
    // Its functions are used until the process ends.
    std::mem::forget(library);
    // SAFETY: the caller's own pointer.
    unsafe { real(list) }
}
