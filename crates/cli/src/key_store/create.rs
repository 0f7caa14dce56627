//! `keystorectl key-store create`

use std::path::PathBuf;

use clap::Args;

use super::Done;
use crate::failure::Failure;
use crate::{Context, parse, password, payload};
use client::fingerprint;
use model::limits;
use proto::v1::CreateKeyStoreRequest;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Name of the new key store, 1 to 256 characters; not secret
    #[arg(value_parser = parse::key_store_name)]
    name: String,
    /// Cluster of the configuration
    #[arg(long, value_name = "ID", value_parser = parse::cluster_id)]
    cluster: String,
    /// PEM file with the certificate under which the ceremony certified the HSMs: the cluster's customerCA.crt
    #[arg(long, value_name = "FILE")]
    trust_anchor: PathBuf,
    /// File with kmsuser's PIN, which only you may read; - is standard input [default: ask on the terminal]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { name, cluster, trust_anchor, password_file } = arguments;
    let anchor = trust_anchor_certificate(context, &trust_anchor).await?;
    let whose = format!("kmsuser's PIN in the HSMs of {cluster}");
    let password = password::read(password_file.into(), &whose).await?;
    let client = context.connection.connect().await?;
    let request = CreateKeyStoreRequest {
        key_store_name: name,
        cluster_id: cluster,
        trust_anchor_certificate: anchor,
        ..Default::default()
    };
    let id = client.create_key_store(request, &password).await?;
    // The id alone on standard output, for a script to take.
    context.printer.report(&Done { key_store_id: id.clone(), text: id.clone() })?;
    context
        .printer
        .note(format!("The password was not tried yet; `keystorectl key-store connect {id} --wait` does that."));
    Ok(())
}

async fn trust_anchor_certificate(context: &Context, path: &std::path::Path) -> Result<String, Failure> {
    if path == std::path::Path::new("-") {
        return Err(Failure::usage("--trust-anchor must be a file; standard input is kept for the password"));
    }
    // A character may take four bytes; the service counts characters.
    let bytes = payload::read(context, path, 4 * limits::TRUST_ANCHOR_CHARS, "trust anchor", "").await?.into_exposed();
    match String::from_utf8(bytes) {
        Ok(pem) if fingerprint(&pem).is_some() => Ok(pem),
        _ => Err(Failure::local(format!("{} holds no PEM certificate", path.display()))
            .with_hint("give the customerCA.crt of the ceremony folder")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn a_password_is_no_argument() {
        let line = ["create", "lab", "--cluster", "cluster-keystoredev", "--trust-anchor", "ca.crt"];
        assert!(Line::try_parse_from(line).unwrap().arguments.password_file.is_none());
        for more in [&["--password", "1234"][..], &["--password=1234"], &["--key-store-password", "1234"], &["1234"]] {
            assert!(Line::try_parse_from([&line[..], more].concat()).is_err(), "{more:?}");
        }
    }

    #[test]
    fn cluster_and_trust_anchor_are_needed() {
        assert!(Line::try_parse_from(["create", "lab", "--cluster", "cluster-keystoredev"]).is_err());
        assert!(Line::try_parse_from(["create", "lab", "--trust-anchor", "ca.crt"]).is_err());
    }
}
