//! A further HSM that the ceremony has certified and the daemon has not let in yet.

use std::fs;
use std::path::PathBuf;

use ceremony::{self, Error, NewMember};
use model::clock::Clock;
use proto::v1::AddHsmRequest;
use protocol::{CeremonyOp, Op, Reply, Role};
use supervisor::Worker;

use super::intruder::{Intruder, openssl, shown};
use crate::harness::zone::Zone;
use crate::harness::{Caller, Daemon, other};
use crate::members;

/// hsm-c.
pub(super) struct Newcomer {
    pub(super) serial: String,
    /// PEM of its own certificates.
    pub(super) identity: String,
    pub(super) transport: String,
}

impl Newcomer {
    /// In the configuration of a daemon that serves.
    pub(super) async fn certified() -> (Daemon, Caller, Self) {
        let daemon = Daemon::start().await;
        let caller = daemon.caller().await;
        members::third_zone(daemon.site());
        daemon.hang_up("the configuration was read again");
        let NewMember { serial, identity_certificate, transport_certificate } = certify(&daemon).await.unwrap();
        let newcomer = Self { serial, identity: identity_certificate, transport: transport_certificate };
        newcomer.assert_without_wrapping_key(&daemon);
        (daemon, caller, newcomer)
    }

    pub(super) async fn certify_again(&self, daemon: &Daemon) -> Result<NewMember, Error> {
        certify(daemon).await
    }

    /// A request with its PIN and these certificates.
    pub(super) fn request(&self, intruder: &Intruder, identity: &str, transport: &str) -> AddHsmRequest {
        AddHsmRequest { key_store_password: other::PIN.to_owned(), ..intruder.request("hsm-c", identity, transport) }
    }

    /// What its operator asks for.
    pub(super) fn genuine(&self, intruder: &Intruder) -> AddHsmRequest {
        self.request(intruder, &self.identity, &self.transport)
    }

    /// Its token, for other PKCS#11 clients.
    pub(super) fn zone(&self, daemon: &Daemon) -> Zone {
        let zones = daemon.site().zones(daemon.pid());
        let zone = zones.into_iter().find(|zone| zone.name == "c").unwrap();
        let pin_file = daemon.site().path().join("newcomer.pin");
        fs::write(&pin_file, other::PIN).unwrap();
        Zone { pin_file, ..zone }
    }

    pub(super) fn holds_wrapping_key(&self, daemon: &Daemon) -> bool {
        let objects = self.zone(daemon).pkcs11_tool(&["--list-objects", "--type", "secrkey"]);
        assert!(objects.contains("keystored-canary"), "{objects}");
        objects.contains("keystored-cluster-wrapping")
    }

    #[track_caller]
    pub(super) fn assert_without_wrapping_key(&self, daemon: &Daemon) {
        assert!(!self.holds_wrapping_key(daemon), "the token has got a wrapping key");
    }

    /// Whether the daemon counts it as a full member.
    pub(super) async fn is_member(&self, caller: &Caller) -> bool {
        let hsms = caller.cluster().await.hsms;
        let of =
            |id: &str| hsms.iter().find(|hsm| hsm.status.as_ref().is_some_and(|status| status.hsm_id == id)).unwrap();
        assert!(of("hsm-a").member && of("hsm-b").member, "{hsms:?}");
        of("hsm-c").member
    }

    /// Does something in its token by a ceremony worker, as an operator at a bench of his own would.
    pub(super) async fn in_its_token(&self, daemon: &Daemon, work: impl AsyncFnOnce(&Worker)) {
        let participant = other::of_site(daemon.site(), "hsm-c");
        let worker = Worker::start(&participant.settings, Role::Ceremony, &Clock::system()).await.unwrap();
        worker.login(participant.pin.clone()).await.unwrap();
        work(&worker).await;
        worker.stop().await;
    }
}

async fn certify(daemon: &Daemon) -> Result<NewMember, Error> {
    let participant = other::of_site(daemon.site(), "hsm-c");
    let (cluster, folder) = (daemon.site().cluster().into(), daemon.site().ceremony());
    ceremony::certify(&cluster, &participant, &folder, &Clock::system(), &mut |_| ()).await
}

pub(super) async fn ceremony(worker: &Worker, step: CeremonyOp) -> Reply {
    match worker.call(Op::Ceremony(step)).await {
        Ok(Reply::Failed(fault)) => panic!("{fault}"),
        Ok(reply) => reply,
        Err(error) => panic!("{error}"),
    }
}

/// A certificate that lies in a token, PEM: everybody can read it there.
pub(super) fn certificate(daemon: &Daemon, zone: &str, label: &str) -> String {
    let dir: PathBuf = daemon.site().path().to_owned();
    let der = shown(&dir.join(format!("{label}.der")));
    daemon.zone(zone).pkcs11_tool(&["--read-object", "--type", "cert", "--label", label, "--output-file", &der]);
    openssl(&["x509", "-inform", "DER", "-in", &der], &dir)
}
