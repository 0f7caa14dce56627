//! Types generated from `proto/keystored/v1/*.proto` by build.rs.

#![forbid(unsafe_code)]

pub mod codec;

/// Package `keystored.v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated; the .proto files carry the documentation")]
pub mod v1 {
    tonic::include_proto!("keystored.v1");

    macro_rules! silent_debug {
        ($($message:ident),+) => {$(
            impl ::core::fmt::Debug for $message {
                fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    f.debug_struct(stringify!($message)).field("key_id", &self.key_id).finish_non_exhaustive()
                }
            }
        )+};
    }
    silent_debug!(EncryptRequest, DecryptResponse, GenerateDataKeyResponse);
    silent_debug!(DecryptRequest, GenerateDataKeyRequest, GenerateDataKeyWithoutPlaintextRequest, DescribeKeyRequest);
    silent_debug!(CreateGrantRequest);

    impl ::core::fmt::Debug for ReEncryptRequest {
        fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
            let mut shown = f.debug_struct("ReEncryptRequest");
            shown.field("source_key_id", &self.source_key_id).field("destination_key_id", &self.destination_key_id);
            shown.finish_non_exhaustive()
        }
    }

    impl ::core::fmt::Debug for GenerateRandomResponse {
        fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
            f.debug_struct("GenerateRandomResponse").finish_non_exhaustive()
        }
    }

    macro_rules! partial_debug {
        ($($message:ident.$field:ident),+) => {$(
            impl ::core::fmt::Debug for $message {
                fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    f.debug_struct(stringify!($message)).field(stringify!($field), &self.$field).finish_non_exhaustive()
                }
            }
        )+};
    }
    partial_debug!(CreateKeyStoreRequest.key_store_name, UpdateKeyStoreRequest.key_store_id, AddHsmRequest.hsm_id);
    partial_debug!(CreateGrantResponse.grant_id, RetireGrantRequest.grant_id, CreateAccessKeyResponse.access_key);

    /// The compiled descriptors, for the reflection service.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/keystored.v1.bin"));
}
