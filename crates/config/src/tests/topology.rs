//! HSMs that stand in several zones, and keys that stay where they are made.

use super::{GOOD, judge, refused};

const REPLICATES: &str = "capabilities.topology.kind = \"self-replicating\"";
const IN_PLACE: &str = "capabilities.keys.made = \"in-place\"";

/// Without the good file's first HSM, and with this for the other one's zone.
pub(super) fn alone(text: &str, zone: &str) -> String {
    let (from, to) = (text.find("[[cluster.hsm]]"), text.rfind("[[cluster.hsm]]"));
    let (from, to) = from.zip(to).expect("two HSMs");
    format!("{}{}", &text[..from], &text[to..]).replacen("zone = \"b\"", zone, 1)
}

/// One HSM, with this for its zone and this said of it.
fn one(zone: &str, said: &[&str]) -> String {
    alone(GOOD, zone).replacen("kill.crypto_ms = 500", &said.join("\n"), 1)
}

#[test]
fn one_that_replicates_by_itself_is_a_cluster() {
    let config = judge(&one("zones = [\"b\", \"c\"]", &[REPLICATES, IN_PLACE])).expect("good");
    let hsm = &config.clusters[0].hsms[0];
    assert_eq!((hsm.zone.as_str(), config.clusters[0].hsms.len()), ("b+c", 1));
    assert!(hsm.capabilities.topology.replicates() && hsm.capabilities.keys.in_place());
    judge(&one("zones = [\"b\", \"c\"]", &[REPLICATES])).expect("with wrapped keys too");
    let softhsm = ["profile = \"softhsm\"", REPLICATES, IN_PLACE];
    let config = judge(&one("zones = [\"b\", \"c\"]", &softhsm)).expect("good");
    assert!(!config.clusters[0].hsms[0].hot_copies, "they cannot be copied");
}

#[test]
fn two_that_can_wrap_are_one_cluster() {
    let b = GOOD.replacen("zone = \"b\"", "zones = [\"b\", \"c\"]", 1).replacen("kill.crypto_ms = 500", REPLICATES, 1);
    let config = judge(&b).expect("good");
    assert_eq!(config.clusters[0].hsms[1].zone.as_str(), "b+c");
    let one_zone = GOOD.replacen("kill.crypto_ms = 500", REPLICATES, 1);
    assert_eq!(judge(&one_zone).expect("all in one zone").clusters[0].hsms[1].zone.as_str(), "b");
}

#[test]
fn what_cannot_be_is_refused() {
    let in_b = format!("{REPLICATES}\n{IN_PLACE}");
    for (from, to, line, says) in [
        ("zone = \"b\"", "zones = [\"b\", \"c\"]", 32, "only an HSM that replicates its keys by itself"),
        ("zone = \"b\"", "zone = \"b\"\nzones = [\"b\", \"c\"]", 33, "an HSM has `zone`, or `zones`"),
        ("zone = \"b\"\n", "", 30, "missing field `zone`"),
        ("kill.crypto_ms = 500", IN_PLACE, 36, "capabilities.keys.made: what is made in place is in one HSM alone"),
        ("kill.crypto_ms = 500", &in_b, 30, "HSM hsm-b makes its keys in place (capabilities.keys.made), and no other"),
        (
            "kill.crypto_ms = 500",
            "capabilities.topology.settles_ms = 5",
            36,
            "capabilities.topology.settles_ms: is of an HSM alone that replicates",
        ),
        ("kill.crypto_ms = 500", "capabilities.topology.kind = \"cloned\"", 36, "unknown variant `cloned`"),
        ("kill.crypto_ms = 500", "capabilities.keys.made = \"outside\"", 36, "unknown variant `outside`"),
    ] {
        let (found, message) = refused(from, to);
        assert!(message.contains(says), "{to}: {message}");
        assert_eq!(found, line, "{to}: {message}");
    }
    for (zone, said, says) in [
        ("zones = [\"b\"]", &[REPLICATES, IN_PLACE][..], "name 2 to 8 zones; of one write zone"),
        ("zones = []", &[REPLICATES, IN_PLACE], "name 2 to 8 zones"),
        ("zones = [\"b\", \"b\"]", &[REPLICATES, IN_PLACE], "zone \"b\" is named twice"),
        ("zones = [\"b\", \"c+d\"]", &[REPLICATES, IN_PLACE], "\"c+d\" is no zone"),
        ("zone = \"b+c\"", &[REPLICATES, IN_PLACE], "\"b+c\" is no zone"),
        ("zone = \"b\"", &[REPLICATES, IN_PLACE], "1 HSM(s) in 1 zone(s); it needs at least two HSMs in two zones"),
        ("zones = [\"b\", \"c\"]", &[REPLICATES, IN_PLACE, "hot_copies = true"], "cannot be copied"),
        (
            "zones = [\"b\", \"c\"]",
            &[REPLICATES, "capabilities.topology.settles_ms = 15001"],
            "capabilities.topology.settles_ms: 15001 is outside 0 to 15000",
        ),
    ] {
        let error = judge(&one(zone, said)).expect_err("must be refused");
        assert!(error.message.contains(says) && error.line.is_some(), "{zone} {said:?}: {error}");
    }
}
