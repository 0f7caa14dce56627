//! `keystorectl cluster doctor`

use clap::Args;
use serde::Serialize;

use crate::failure::Failure;
use crate::printer::{Report, facts, wrapped_table};
use crate::status::Finding;
use crate::{Context, parse};
use proto::v1 as wire;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// HSM, as in the configuration
    #[arg(value_parser = parse::hsm_id)]
    hsm: String,
    /// Its cluster [default: the one that it is in]
    #[arg(long, value_parser = parse::cluster_id)]
    cluster: Option<String>,
}

#[derive(Serialize)]
struct Diagnosis {
    hsm_id: String,
    zone: String,
    at: Option<String>,
    reason: String,
    profile: Profile,
    /// None where module and token could not be asked.
    description: Option<Description>,
    not_described: String,
    findings: Vec<Finding>,
    codes: Vec<Code>,
    speeds: Vec<Speed>,
}

#[derive(Serialize)]
struct Profile {
    name: String,
    basis: String,
    overrides: Vec<String>,
}

#[derive(Serialize)]
struct Description {
    cryptoki_version: String,
    library: Part,
    slot: Part,
    token: Token,
    mechanisms: Vec<Mechanism>,
    mechanisms_listed: u32,
}

/// A library, a slot or a token. What there is not of it is empty.
#[derive(Serialize)]
struct Part {
    description: String,
    manufacturer: String,
    version: String,
    hardware_version: String,
    firmware_version: String,
    flags: Vec<String>,
}

#[derive(Serialize)]
struct Token {
    label: String,
    serial: String,
    #[serde(flatten)]
    part: Part,
    sessions: Option<u64>,
    most_sessions: String,
    shortest_pin: u64,
    longest_pin: u64,
}

#[derive(Serialize)]
struct Mechanism {
    number: String,
    name: String,
    listed: bool,
    smallest_key: u64,
    largest_key: u64,
    flags: Vec<String>,
}

#[derive(Serialize)]
struct Code {
    function: String,
    said: String,
    meaning: String,
    times: u64,
}

#[derive(Serialize)]
struct Speed {
    what: String,
    sessions: u32,
    times: u64,
    took_seconds: f64,
    /// None where it was not measured.
    per_second: Option<f64>,
    refused: Option<String>,
}

pub(super) async fn run(context: &Context, Arguments { hsm, cluster }: Arguments) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let cluster = match cluster {
        Some(cluster) => cluster,
        None => {
            let clusters = client.describe_clusters(None).await?;
            let is_it = |of: &wire::ClusterHsm| of.status.as_ref().is_some_and(|status| status.hsm_id == hsm);
            let of = clusters.into_iter().find(|cluster| cluster.hsms.iter().any(is_it));
            of.ok_or_else(|| Failure::usage(format!("no cluster of the configuration has an HSM {hsm}")))?.cluster_id
        }
    };
    let diagnosis = client.diagnose_hsm(&cluster, &hsm).await?;
    context.printer.report(&Diagnosis::from(diagnosis))
}

impl Report for Diagnosis {
    fn text(&self) -> String {
        let mut parts = vec![facts([
            ("HSM", format!("{} in zone {}", self.hsm_id, self.zone)),
            ("Looked at", self.at.clone().unwrap_or_default()),
            ("Reason", self.reason.clone()),
            ("Profile", format!("{} ({})", self.profile.name, self.profile.basis)),
            ("Otherwise", self.profile.overrides.join(", ")),
        ])];
        match &self.description {
            Some(description) => parts.extend([description.text(), description.mechanisms()]),
            None => parts.push(format!("Module and token could not be asked: {}", self.not_described)),
        }
        if self.findings.is_empty() {
            parts.push("No worker has looked at what the token does.".to_owned());
        } else {
            let rows = self
                .findings
                .iter()
                .map(|of| vec![of.name.clone(), of.expected.clone(), of.found.clone(), of.verdict.to_owned()]);
            parts.push(wrapped_table(&["what", "expected", "found", "verdict"], rows));
            parts.extend(self.findings.iter().filter_map(|of| of.sentence.clone()));
        }
        if !self.codes.is_empty() {
            let rows = self.codes.iter().map(|of| vec![of.said.clone(), of.meaning.clone(), of.times.to_string()]);
            parts.push(wrapped_table(&["return value", "taken for", "times"], rows));
        }
        if !self.speeds.is_empty() {
            parts.push(wrapped_table(
                &["speed", "sessions", "a second", "µs each", ""],
                self.speeds.iter().map(Speed::row),
            ));
        }
        parts.join("\n\n")
    }
}

impl Description {
    fn text(&self) -> String {
        let versions = |of: &Part| format!("hardware {}, firmware {}", of.hardware_version, of.firmware_version);
        let Token { label, serial, part, .. } = &self.token;
        let sessions = self.token.sessions.map_or_else(|| "not told".to_owned(), |open| open.to_string());
        facts([
            ("Cryptoki", self.cryptoki_version.clone()),
            ("Library", format!("{} {}", self.library.description, self.library.version)),
            ("  by", self.library.manufacturer.clone()),
            ("Slot", self.slot.description.clone()),
            ("  by", self.slot.manufacturer.clone()),
            ("  versions", versions(&self.slot)),
            ("  flags", self.slot.flags.join(" ")),
            ("Token", format!("{label:?}, serial number {serial}")),
            ("  model", part.description.clone()),
            ("  by", part.manufacturer.clone()),
            ("  versions", versions(part)),
            ("  flags", part.flags.join(" ")),
            ("  sessions", format!("{sessions} open, at most: {}", self.token.most_sessions)),
            ("  PIN", format!("{} to {} bytes", self.token.shortest_pin, self.token.longest_pin)),
        ])
    }

    fn mechanisms(&self) -> String {
        let rows = self.mechanisms.iter().map(|of| {
            let sizes =
                if of.listed { format!("{} to {}", of.smallest_key, of.largest_key) } else { "not listed".into() };
            let flags = of.flags.iter().map(|flag| flag.trim_start_matches("CKF_")).collect::<Vec<_>>().join(" ");
            vec![of.number.clone(), of.name.clone(), sizes, flags]
        });
        let listed = wrapped_table(&["mechanism", "name", "key sizes", "flags"], rows);
        format!("{listed}\n{} mechanisms are listed in all.", self.mechanisms_listed)
    }
}

impl Speed {
    fn row(&self) -> Vec<String> {
        let (each, rate) = match self.per_second {
            Some(rate) if rate > 0.0 => (format!("{:.1}", f64::from(self.sessions) * 1e6 / rate), format!("{rate:.0}")),
            _ => Default::default(),
        };
        vec![self.what.clone(), self.sessions.to_string(), rate, each, self.refused.clone().unwrap_or_default()]
    }
}

impl From<wire::DiagnoseHsmResponse> for Diagnosis {
    fn from(of: wire::DiagnoseHsmResponse) -> Self {
        let profile = of.profile.unwrap_or_default();
        Self {
            hsm_id: of.hsm_id,
            zone: of.zone,
            at: of.at.map(|at| at.to_string()),
            reason: of.reason,
            profile: Profile { name: profile.name, basis: profile.basis, overrides: profile.overrides },
            description: of.description.map(Description::from),
            not_described: of.not_described,
            findings: of.findings.into_iter().map(Finding::from).collect(),
            codes: of.codes.into_iter().map(Code::from).collect(),
            speeds: of.speeds.into_iter().map(Speed::from).collect(),
        }
    }
}

impl From<wire::HsmDescription> for Description {
    fn from(of: wire::HsmDescription) -> Self {
        let library = Part {
            description: of.library_description,
            manufacturer: of.library_manufacturer,
            version: of.library_version,
            hardware_version: String::new(),
            firmware_version: String::new(),
            flags: Vec::new(),
        };
        let slot = Part {
            description: of.slot_description,
            manufacturer: of.slot_manufacturer,
            version: String::new(),
            hardware_version: of.slot_hardware_version,
            firmware_version: of.slot_firmware_version,
            flags: of.slot_flags,
        };
        let token = Part {
            description: of.token_model,
            manufacturer: of.token_manufacturer,
            version: String::new(),
            hardware_version: of.token_hardware_version,
            firmware_version: of.token_firmware_version,
            flags: of.token_flags,
        };
        let mechanism = |of: wire::HsmMechanism| Mechanism {
            number: format!("{:#x}", of.number),
            name: of.name,
            listed: of.listed,
            smallest_key: of.smallest_key,
            largest_key: of.largest_key,
            flags: of.flags,
        };
        Self {
            cryptoki_version: of.cryptoki_version,
            library,
            slot,
            token: Token {
                label: of.token_label,
                serial: of.token_serial,
                part: token,
                sessions: of.token_sessions,
                most_sessions: of.token_most_sessions,
                shortest_pin: of.token_shortest_pin,
                longest_pin: of.token_longest_pin,
            },
            mechanisms: of.mechanisms.into_iter().map(mechanism).collect(),
            mechanisms_listed: of.mechanisms_listed,
        }
    }
}

impl From<wire::HsmCode> for Code {
    fn from(of: wire::HsmCode) -> Self {
        Self { function: of.function, said: of.said, meaning: of.meaning, times: of.times }
    }
}

impl From<wire::HsmSpeed> for Speed {
    fn from(of: wire::HsmSpeed) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "a speed for people")]
        let per_second = (of.refused.is_empty() && of.took > 0.0).then(|| of.times as f64 / of.took);
        Self {
            what: of.what,
            sessions: of.sessions,
            times: of.times,
            took_seconds: of.took,
            per_second,
            refused: Some(of.refused).filter(|why| !why.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> wire::DiagnoseHsmResponse {
        let finding = |name: &str, verdict: wire::HsmVerdict, sentence: &str| wire::HsmFinding {
            name: name.to_owned(),
            expected: "true".to_owned(),
            found: "false: C_CopyObject: CKR_FUNCTION_NOT_SUPPORTED".to_owned(),
            verdict: verdict.into(),
            sentence: sentence.to_owned(),
        };
        let speed = |what: &str, sessions, refused: &str| wire::HsmSpeed {
            what: what.to_owned(),
            sessions,
            times: 1_000,
            took: 0.1,
            refused: refused.to_owned(),
        };
        wire::DiagnoseHsmResponse {
            hsm_id: "hsm-a".to_owned(),
            zone: "zone-a".to_owned(),
            profile: Some(wire::HsmProfile {
                name: "luna".to_owned(),
                basis: "documents".to_owned(),
                overrides: vec!["gcm.iv_bits = 0".to_owned()],
            }),
            description: Some(wire::HsmDescription {
                library_description: "Implementation of PKCS11".to_owned(),
                token_label: "zone a".to_owned(),
                token_flags: vec!["CKF_RNG".to_owned()],
                mechanisms: vec![wire::HsmMechanism {
                    number: 0x1087,
                    name: "CKM_AES_GCM".to_owned(),
                    listed: true,
                    smallest_key: 16,
                    largest_key: 32,
                    flags: vec!["CKF_ENCRYPT".to_owned(), "CKF_DECRYPT".to_owned()],
                }],
                ..Default::default()
            }),
            findings: vec![
                finding("gcm.iv", wire::HsmVerdict::Holds, ""),
                finding("calls.copy_object", wire::HsmVerdict::Contradicts, "the token refuses C_CopyObject"),
                finding("codes.meaning", wire::HsmVerdict::NotJudged, ""),
            ],
            codes: vec![wire::HsmCode {
                function: "C_Encrypt".to_owned(),
                said: "C_Encrypt: CKR_DEVICE_ERROR".to_owned(),
                meaning: "Token".to_owned(),
                times: 3,
            }],
            speeds: vec![speed("encrypt", 1, ""), speed("encrypt", 2, ""), speed("find", 1, "C_FindObjects: CKR_X")],
            ..Default::default()
        }
    }

    #[test]
    fn the_report_can_be_read_and_sent() {
        let text = Diagnosis::from(answer()).text();
        for words in [
            "hsm-a in zone zone-a",
            "luna (documents)",
            "gcm.iv_bits = 0",
            "Implementation of PKCS11",
            "CKF_RNG",
            "0x1087",
            "16 to 32",
            "ENCRYPT DECRYPT",
            "the token refuses C_CopyObject",
            "C_Encrypt: CKR_DEVICE_ERROR",
            "10000",
            "100.0",
            "C_FindObjects: CKR_X",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
        let json = serde_json::to_value(Diagnosis::from(answer())).unwrap();
        assert_eq!(json["description"]["token"]["label"], "zone a");
        assert_eq!(json["description"]["mechanisms"][0]["number"], "0x1087");
        assert_eq!(json["findings"][1]["verdict"], "contradicts");
        assert_eq!(json["findings"][2]["verdict"], "not-judged");
        assert_eq!(json["speeds"][0]["per_second"], 10_000.0);
        assert_eq!(json["speeds"][2]["per_second"], serde_json::Value::Null);
    }

    #[test]
    fn what_could_not_be_asked_is_said() {
        let answer = wire::DiagnoseHsmResponse {
            not_described: "no worker is ready".to_owned(),
            description: None,
            findings: Vec::new(),
            ..answer()
        };
        let text = Diagnosis::from(answer).text();
        assert!(text.contains("could not be asked: no worker is ready"), "{text}");
        assert!(text.contains("No worker has looked"), "{text}");
    }
}
