//! A cluster of a configuration, for tests.

use config::{self, Cluster};

/// cluster-keystoredev of hsm-a in zone a and hsm-b in zone b.
pub(super) fn cluster() -> Cluster {
    let hsm = |name: &str| {
        format!(
            "[[cluster.hsm]]\nid = \"hsm-{name}\"\nzone = \"{name}\"\nmodule = \"m.so\"\ntoken_label = \"{name}\"\n"
        )
    };
    let text = format!(
        "state_dir = \"state\"\n[seal]\nkey = \"seal.key\"\n[arn]\nregion = \"eu-central-1\"\naccount = \"000000000000\"\n\
         [grpc]\nlisten = \"127.0.0.1:0\"\ncertificate = \"c\"\nkey = \"k\"\nclient_ca = \"ca\"\n\
         [[cluster]]\nid = \"cluster-keystoredev\"\n{}{}",
        hsm("a"),
        hsm("b")
    );
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keystored.toml");
    std::fs::write(&file, text).unwrap();
    config::load(&file).unwrap().clusters.remove(0)
}
