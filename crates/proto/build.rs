//! Compiles the .proto files with protox, a protobuf compiler in Rust: no protoc has to be installed.

#![allow(clippy::print_stdout, reason = "how a build script speaks to Cargo")]

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost_build::Config;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=../../proto");
    let descriptors = protox::compile(
        [
            "keystored/v1/crypto.proto",
            "keystored/v1/keys.proto",
            "keystored/v1/key_stores.proto",
            "keystored/v1/clusters.proto",
            "keystored/v1/access.proto",
            "keystored/v1/approvals.proto",
            "keystored/v1/audit.proto",
        ],
        ["../../proto"],
    )?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // protox's own encoding keeps the comments, which reflection clients show.
    fs::write(out.join("keystored.v1.bin"), prost::Message::encode_to_vec(&descriptors))?;
    let mut config = Config::new();
    config
        // Sorted by key, as the context's canonical encoding wants it.
        .btree_map([".keystored.v1"])
        .bytes([
            ".keystored.v1.EncryptResponse.ciphertext_blob",
            ".keystored.v1.DecryptRequest.ciphertext_blob",
            ".keystored.v1.GenerateDataKeyResponse.ciphertext_blob",
            ".keystored.v1.GenerateDataKeyWithoutPlaintextResponse.ciphertext_blob",
            ".keystored.v1.ReEncryptRequest.ciphertext_blob",
            ".keystored.v1.ReEncryptResponse.ciphertext_blob",
        ])
        // These hold plaintext: src/lib.rs writes a Debug for them that does not show it.
        .skip_debug([
            "keystored.v1.EncryptRequest",
            "keystored.v1.DecryptResponse",
            "keystored.v1.GenerateDataKeyResponse",
            "keystored.v1.GenerateRandomResponse",
            // These come with grant tokens.
            "keystored.v1.DecryptRequest",
            "keystored.v1.GenerateDataKeyRequest",
            "keystored.v1.GenerateDataKeyWithoutPlaintextRequest",
            "keystored.v1.ReEncryptRequest",
            "keystored.v1.DescribeKeyRequest",
            "keystored.v1.CreateGrantRequest",
            // And these a PIN.
            "keystored.v1.CreateKeyStoreRequest",
            "keystored.v1.UpdateKeyStoreRequest",
            "keystored.v1.AddHsmRequest",
            // And these name a grant to whoever has them.
            "keystored.v1.CreateGrantResponse",
            "keystored.v1.RetireGrantRequest",
            // And this one the secret of an access key.
            "keystored.v1.CreateAccessKeyResponse",
        ]);
    tonic_prost_build::configure()
        .codec_path("crate::codec::BoundedCodec")
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}
