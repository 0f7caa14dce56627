//! What was found of one HSM, as it stands on the wire.

use super::key_stores::{finding, time};
use cluster::diagnosis::{CodeSeen, Described, MechanismSeen, Speed};
use model::profile::Basis;
use proto::v1;
use service::HsmDiagnosis;

/// The whole report.
pub(super) fn shown(of: HsmDiagnosis) -> v1::DiagnoseHsmResponse {
    let HsmDiagnosis { cluster: _, hsm, zone, at, found } = of;
    let (description, not_described) = match found.described {
        Ok(described) => (Some(description(described)), String::new()),
        Err(why) => (None, why),
    };
    let (profile, basis) = found.profile;
    let basis = match basis {
        Basis::Measured => "measured",
        Basis::Documents => "documents",
        Basis::Standard => "standard",
    };
    v1::DiagnoseHsmResponse {
        hsm_id: hsm.to_string(),
        zone: zone.to_string(),
        at: Some(time(at)),
        reason: found.reason.unwrap_or_default(),
        profile: Some(v1::HsmProfile {
            name: profile.name().to_owned(),
            basis: basis.to_owned(),
            overrides: found.overrides,
        }),
        description,
        not_described,
        findings: found.findings.iter().map(finding).collect(),
        codes: found.codes.into_iter().map(code).collect(),
        speeds: found
            .speeds
            .into_iter()
            .map(|(what, sessions, speed)| measured(what.name(), sessions, speed))
            .collect(),
    }
}

fn description(of: Described) -> v1::HsmDescription {
    let Described { library, slot, token, mechanisms, mechanisms_listed } = of;
    v1::HsmDescription {
        cryptoki_version: library.cryptoki_version,
        library_manufacturer: library.manufacturer,
        library_description: library.description,
        library_version: library.version,
        slot_description: slot.description,
        slot_manufacturer: slot.manufacturer,
        slot_hardware_version: slot.hardware_version,
        slot_firmware_version: slot.firmware_version,
        slot_flags: slot.flags,
        token_label: token.label,
        token_manufacturer: token.manufacturer,
        token_model: token.model,
        token_serial: token.serial,
        token_hardware_version: token.hardware_version,
        token_firmware_version: token.firmware_version,
        token_flags: token.flags,
        token_sessions: token.sessions,
        token_most_sessions: token.most_sessions,
        token_shortest_pin: token.shortest_pin,
        token_longest_pin: token.longest_pin,
        mechanisms: mechanisms.into_iter().map(mechanism).collect(),
        mechanisms_listed,
    }
}

fn mechanism(of: MechanismSeen) -> v1::HsmMechanism {
    v1::HsmMechanism {
        number: of.number,
        name: of.name,
        listed: of.listed,
        smallest_key: of.least,
        largest_key: of.most,
        flags: of.flags,
    }
}

fn code(of: CodeSeen) -> v1::HsmCode {
    v1::HsmCode { function: of.function, said: of.said, meaning: format!("{:?}", of.class), times: of.times }
}

fn measured(what: &str, sessions: u16, speed: Result<Speed, String>) -> v1::HsmSpeed {
    let (speed, refused) = match speed {
        Ok(speed) => (speed, String::new()),
        Err(why) => (Speed::default(), why),
    };
    v1::HsmSpeed {
        what: what.to_owned(),
        sessions: sessions.into(),
        times: speed.times,
        took: std::time::Duration::from_nanos(speed.nanos).as_secs_f64(),
        refused,
    }
}
