//! The configuration of a development daemon.

use std::path::Path;

use super::Options;
use super::zone::Zone;

/// Letters that AWS's pattern for cluster ids allows.
const CLUSTER: &str = "cluster-keystoredev";

/// The text of keystored.toml. Paths are relative to it where they can be, so that the directory can be moved.
pub(super) fn text(options: &Options, module: &Path, zones: &[Zone]) -> String {
    let (grpc, ops) = (quoted(&options.listen.0), quoted(&options.listen.1));
    let mut text = format!(
        "# Written by `keystored dev` where it was not there, and left alone since: change what you like, and delete it to\n\
         # have it written anew. deploy/keystored.toml has every setting.\n\
         state_dir = \"state\"\n\n\
         [arn]\nregion = \"eu-central-1\"\naccount = \"000000000000\"\n\n\
         [grpc]\nlisten = {grpc}\ncertificate = \"pki/server.pem\"\nkey = \"pki/server.key\"\nclient_ca = \"pki/ca.pem\"\n\n\
         [ops]\nlisten = {ops}\n\n\
         [log]\nformat = \"text\"\n\n\
         [[cluster]]\nid = \"{CLUSTER}\"\nname = \"dev\"\n"
    );
    for zone in zones {
        let (id, label, name, serial) =
            (quoted(&zone.id()), quoted(&zone.label()), quoted(&zone.name), quoted(&zone.serial));
        let (module, conf) = (quoted(&module.to_string_lossy()), quoted(&zone.conf().to_string_lossy()));
        let pin_file = quoted(&format!("credentials/{}.pin", zone.name));
        text.push_str(&format!(
            "\n[[cluster.hsm]]\nid = {id}\nzone = {name}\nmodule = {module}\ntoken_label = {label}\n\
             token_serial = {serial}\nprofile = \"softhsm\"\npin_file = {pin_file}\nenv.SOFTHSM2_CONF = {conf}\n"
        ));
    }
    text
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
