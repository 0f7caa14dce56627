//! The configuration of a development daemon.

use std::path::Path;

use super::Options;
use super::certificates::ADMINISTRATOR;
use super::zone::Zone;

/// Letters that AWS's pattern for cluster ids allows.
pub(super) const CLUSTER: &str = "cluster-keystoredev";

/// The text of keystored.toml. Paths are relative to it where they can be, so that the directory can be moved.
pub(super) fn text(options: &Options, module: &Path, zones: &[Zone]) -> String {
    let [grpc, aws, ops] = options.listen.each_ref().map(|address| quoted(address));
    let mut text = format!(
        "# Written by `keystored dev` where it was not there, and left alone since: change what you like, and delete it to\n\
         # have it written anew. deploy/keystored.toml has every setting.\n\
         state_dir = \"state\"\n\
         lock_dir = \"state\"\n\
         # Who may do everything, whatever policies say.\n\
         administrators = [\"cn:{ADMINISTRATOR}\"]\n\n\
         [seal]\nkey = \"credentials/seal.key\"\n\n\
         [arn]\nregion = \"eu-central-1\"\naccount = \"000000000000\"\n\n\
         [grpc]\nlisten = {grpc}\ncertificate = \"pki/server.pem\"\nkey = \"pki/server.key\"\nclient_ca = \"pki/ca.pem\"\n\n\
         [aws]\nlisten = {aws}\ncertificate = \"pki/server.pem\"\nkey = \"pki/server.key\"\n\n\
         [ops]\nlisten = {ops}\n\n\
         [log]\nformat = \"text\"\n\n\
         [[cluster]]\nid = \"{CLUSTER}\"\n"
    );
    for zone in zones {
        let (id, label, name, serial) =
            (quoted(&zone.id()), quoted(&zone.label()), quoted(&zone.name), quoted(&zone.serial));
        let (module, conf) = (quoted(&module.to_string_lossy()), quoted(&zone.conf().to_string_lossy()));
        text.push_str(&format!(
            "\n[[cluster.hsm]]\nid = {id}\nzone = {name}\nmodule = {module}\ntoken_label = {label}\n\
             token_serials = [{serial}]\nprofile = \"softhsm\"\nenv.SOFTHSM2_CONF = {conf}\n"
        ));
    }
    text
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
