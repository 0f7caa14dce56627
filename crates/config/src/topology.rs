//! In which zones an HSM stands, and what follows from where its keys are made.

use toml::Spanned;

use super::check::Context;
use super::{Error, Hsm, raw};
use model::id::Zone;
use model::profile::Capabilities;

/// Most zones of one HSM.
const ZONES: usize = 8;

impl Context<'_> {
    /// The zone of an HSM, or its zones where its module has its keys in several by itself.
    pub(super) fn zone_of(&self, hsm: &Spanned<raw::Hsm>, capabilities: &Capabilities) -> Result<Zone, Error> {
        let raw = hsm.get_ref();
        let zones = match (&raw.zone, &raw.zones) {
            (Some(zone), None) => return Ok(self.name(zone, "zone")?.into()),
            (None, Some(zones)) => zones,
            (None, None) => return Err(self.at(hsm, "missing field `zone`")),
            (Some(_), Some(zones)) => {
                return Err(self.at(zones, "an HSM has `zone`, or `zones` where it stands in several; take one out"));
            }
        };
        if !capabilities.topology.replicates() {
            let message = "only an HSM that replicates its keys by itself stands in several zones (capabilities.topology.kind = \
                           \"self-replicating\"); write zone = \"…\"";
            return Err(self.at(zones, message));
        }
        let mut names: Vec<&str> = Vec::with_capacity(zones.get_ref().len());
        for zone in zones.get_ref() {
            let name = self.name(zone, "zone")?;
            if names.contains(&name) {
                return Err(self.at(zone, format!("zone {name:?} is named twice; take one out")));
            }
            names.push(name);
        }
        match names.len() {
            2..=ZONES => Ok(Zone::over(names)),
            _ => Err(self.at(zones, format!("name 2 to {ZONES} zones; of one write zone = \"…\""))),
        }
    }

    /// Nobody else can have the keys of an HSM that makes them in place.
    pub(super) fn alone(&self, hsms: &[Hsm], places: &[Spanned<raw::Hsm>]) -> Result<(), Error> {
        let in_place = hsms.iter().zip(places).find(|(hsm, _)| hsm.capabilities.keys.in_place());
        match in_place.filter(|_| hsms.len() > 1) {
            None => Ok(()),
            Some((hsm, place)) => {
                let message = format!(
                    "HSM {} makes its keys in place (capabilities.keys.made), and no other HSM can have them: give it a \
                     [[cluster]] of its own, or, where all of these can wrap keys, set capabilities.keys.made = \"wrapped\"",
                    hsm.id
                );
                Err(self.at(place, message))
            }
        }
    }
}
