//! Whose IV an encryption has: what a way of AES-GCM makes of what a caller gave.

use cryptoki_sys::*;

use super::names::Code;
use super::settings::{Gcm, Iv};

/// Whose IV an encryption has.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// The caller's.
    Callers,
    /// So many bytes of the caller's, and so many that the token makes.
    Made(usize, usize),
}

/// What becomes of a caller's IV (`None`: a null pointer) and ulIvBits.
pub(super) fn plan(gcm: &Gcm, iv: Option<&[u8]>, length: usize, bits: CK_ULONG) -> Result<Plan, CK_RV> {
    let wrong = Err(gcm.iv_code.unwrap_or(Code(CKR_MECHANISM_PARAM_INVALID)).0);
    if gcm.iv_bits.as_ref().is_some_and(|all| !all.contains(&bits)) {
        return wrong;
    }
    match (gcm.iv, iv) {
        (Iv::Caller, Some(iv)) if gcm.iv_length.is_none_or(|length| length == iv.len()) => Ok(Plan::Callers),
        (Iv::ZeroedWriteback, Some(iv)) if iv.len() == gcm.made() && iv.iter().all(|byte| *byte == 0) => {
            Ok(Plan::Made(0, gcm.made()))
        }
        (Iv::Ignored, Some(iv)) if iv.len() == gcm.made() => Ok(Plan::Made(0, gcm.made())),
        (Iv::NullPrepended, None) => Ok(Plan::Made(0, gcm.made())),
        // Luna from firmware 7.9.3 on: bits choose, and four bytes of the caller's may stand before.
        (Iv::NullAppended, None) if length == 0 && bits == 96 => Ok(Plan::Made(0, 12)),
        (Iv::NullAppended, None) if length == 0 => Ok(Plan::Made(0, gcm.made())),
        (Iv::NullAppended, Some(iv)) if iv.len() == 16 && bits == 96 => Ok(Plan::Made(4, 12)),
        _ => wrong,
    }
}

/// Whether a caller gives to a decryption what it must (`None`: a null pointer).
pub(super) fn opens(gcm: &Gcm, iv: Option<&[u8]>, bits: CK_ULONG) -> Result<(), CK_RV> {
    if gcm.decrypt_iv_bits.as_ref().is_some_and(|all| !all.contains(&bits)) {
        return Err(CKR_MECHANISM_PARAM_INVALID);
    }
    let fits = match (gcm.iv, iv.map(<[u8]>::len)) {
        (Iv::NullPrepended, iv) => iv.is_none(),
        (_, None) => false,
        (Iv::Caller, Some(length)) => gcm.iv_length.is_none_or(|own| own == length),
        // The bits of the encryption may have asked for one or the other.
        (Iv::NullAppended, Some(length)) => length == 12 || length == 16,
        (Iv::ZeroedWriteback | Iv::Ignored, Some(length)) => length == gcm.made(),
    };
    if fits { Ok(()) } else { Err(gcm.iv_code.unwrap_or(Code(CKR_MECHANISM_PARAM_INVALID)).0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_takes_its_own_ivs_and_no_others() {
        let gcm = |iv| Gcm { iv, ..Gcm::default() };
        let wrong = Err(CKR_MECHANISM_PARAM_INVALID);
        let (zeroes, own) = ([0_u8; 12], [7_u8; 12]);

        assert_eq!(plan(&gcm(Iv::Caller), Some(&own), 12, 96), Ok(Plan::Callers));
        assert_eq!(plan(&gcm(Iv::Caller), None, 0, 0), wrong);

        assert_eq!(plan(&gcm(Iv::ZeroedWriteback), Some(&zeroes), 12, 96), Ok(Plan::Made(0, 12)));
        assert_eq!(plan(&gcm(Iv::ZeroedWriteback), Some(&own), 12, 96), wrong);
        assert_eq!(plan(&gcm(Iv::ZeroedWriteback), Some(&zeroes[..8]), 8, 64), wrong);
        assert_eq!(plan(&gcm(Iv::ZeroedWriteback), None, 0, 0), wrong);

        assert_eq!(plan(&gcm(Iv::NullAppended), None, 0, 0), Ok(Plan::Made(0, 16)));
        assert_eq!(plan(&gcm(Iv::NullAppended), None, 0, 96), Ok(Plan::Made(0, 12)));
        assert_eq!(plan(&gcm(Iv::NullAppended), Some(&[7; 16]), 16, 96), Ok(Plan::Made(4, 12)));
        assert_eq!(plan(&gcm(Iv::NullAppended), Some(&own), 12, 96), wrong);
        assert_eq!(plan(&gcm(Iv::NullAppended), None, 12, 96), wrong);

        assert_eq!(plan(&gcm(Iv::NullPrepended), None, 0, 0), Ok(Plan::Made(0, 12)));
        assert_eq!(plan(&gcm(Iv::NullPrepended), Some(&zeroes), 12, 96), wrong);
    }

    #[test]
    fn a_decryption_is_given_the_iv_or_finds_it() {
        let gcm = |iv| Gcm { iv, decrypt_iv_bits: Some(vec![96, 128]), ..Gcm::default() };
        let wrong = Err(CKR_MECHANISM_PARAM_INVALID);
        for iv in [Iv::Caller, Iv::ZeroedWriteback, Iv::NullAppended] {
            assert_eq!(opens(&gcm(iv), Some(&[7; 12]), 96), Ok(()), "{iv:?}");
            assert_eq!(opens(&gcm(iv), Some(&[7; 12]), 0), wrong, "{iv:?}");
            assert_eq!(opens(&gcm(iv), None, 96), wrong, "{iv:?}");
        }
        assert_eq!(opens(&gcm(Iv::NullAppended), Some(&[7; 16]), 128), Ok(()));
        assert_eq!(opens(&gcm(Iv::ZeroedWriteback), Some(&[7; 16]), 128), wrong);
        assert_eq!(opens(&gcm(Iv::NullPrepended), None, 96), Ok(()));
        assert_eq!(opens(&gcm(Iv::NullPrepended), Some(&[7; 12]), 96), wrong);
    }

    #[test]
    fn bits_lengths_and_the_code_are_the_settings() {
        let gcm = Gcm {
            iv_bits: Some(vec![96]),
            iv_length: Some(12),
            iv_code: Some(Code(CKR_ARGUMENTS_BAD)),
            ..Gcm::default()
        };
        assert_eq!(plan(&gcm, Some(&[7; 12]), 12, 96), Ok(Plan::Callers));
        assert_eq!(plan(&gcm, Some(&[7; 12]), 12, 0), Err(CKR_ARGUMENTS_BAD));
        assert_eq!(plan(&gcm, Some(&[7; 16]), 16, 96), Err(CKR_ARGUMENTS_BAD));
    }
}
