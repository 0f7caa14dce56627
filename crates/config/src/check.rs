//! From the file's shape to the checked form. Pure: no file but the configuration's own text is looked at.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::{Cluster, Config, Error, Grpc, Hsm, Limits, Log, Seal, raw};
use model::id::{ClusterId, Scope, Zone, is_name};
use model::limits::{self, Quotas};
use model::profile::{ChangedBy, Rotation};
use model::text;

/// Directory of locks where the file names none: deploy/keystored.tmpfiles.conf makes it at each start of the host, for
/// the users of keystored alone. Not /run/lock, in which any user of the host could keep logins waiting.
const LOCKS: &str = "/run/keystored";
/// A former seal key is there until every PIN was sealed anew.
const FORMER_SEALS: usize = 8;
/// Failed logins in a row. AWS CloudHSM locks a user after five, other HSMs after ten or three.
const LOGIN_TRIES: usize = 3;
/// Ops are told on loopback unless the file says otherwise.
const OPS: ([u8; 4], u16) = ([127, 0, 0, 1], 7412);
/// What stands before the name of a systemd credential in the place of a path.
const CREDENTIAL: &str = "credential:";

/// What the text is judged against: where it stands, and where systemd keeps credentials.
pub(super) struct Context<'a> {
    pub(super) file: &'a Path,
    pub(super) text: &'a str,
    /// `$CREDENTIALS_DIRECTORY`.
    pub(super) credentials: Option<&'a Path>,
}

pub(super) fn check(context: &Context<'_>) -> Result<Config, Error> {
    let raw: raw::File =
        toml::from_str(context.text).map_err(|error| context.error(error.span(), error.message().trim().to_owned()))?;
    if raw.cluster.is_empty() {
        return Err(context.error(None, "no [[cluster]]: a key store needs one with HSMs in two zones"));
    }
    let (state_dir, scope) = (context.path(&raw.state_dir)?, context.scope(&raw.arn)?);
    let mut config = Config {
        file: Some(context.file.to_owned()),
        audit: context.audit(&raw.audit, &state_dir, &scope)?,
        state_dir,
        lock_dir: raw.lock_dir.as_ref().map_or(Ok(PathBuf::from(LOCKS)), |dir| context.path(dir))?,
        seal: context.seal(&raw.seal)?,
        zone: raw.zone.as_ref().map(|zone| context.name(zone, "zone").map(Zone::from)).transpose()?,
        administrators: context.administrators(&raw.administrators)?,
        scope,
        grpc: Grpc {
            listen: context.address(&raw.grpc.listen)?,
            certificate: context.path(&raw.grpc.certificate)?,
            key: context.path(&raw.grpc.key)?,
            client_ca: context.path(&raw.grpc.client_ca)?,
        },
        aws: None,
        ops: raw.ops.listen.as_ref().map_or(Ok(OPS.into()), |listen| context.address(listen))?,
        limits: context.limits(&raw.limits)?,
        approvals: context.approvals(&raw.approvals)?,
        rate_limits: context.rate_limits(&raw.rate_limits)?,
        log: context.log(&raw.log)?,
        clusters: Vec::with_capacity(raw.cluster.len()),
    };
    config.aws = raw.aws.as_ref().map(|aws| context.aws(aws, config.grpc.listen, config.ops)).transpose()?;
    let clusters = &mut config.clusters;
    let mut hsm_ids = BTreeSet::new();
    for cluster in &raw.cluster {
        let checked = context.cluster(cluster, &mut hsm_ids)?;
        let raw = cluster.get_ref();
        if clusters.iter().any(|other| other.id == checked.id) {
            return Err(
                context.at(&raw.id, format!("cluster id {} is used twice; each cluster has its own", checked.id))
            );
        }
        let known = clusters.iter().flat_map(|other| &other.hsms);
        if let Some((twin, hsm)) = known
            .flat_map(|twin| checked.hsms.iter().map(move |hsm| (twin, hsm)))
            .find(|(twin, hsm)| same_token(twin, hsm))
        {
            let message = format!("HSM {} names the same token as HSM {}; two HSMs are two tokens", hsm.id, twin.id);
            return Err(context.at(cluster, message));
        }
        clusters.push(checked);
    }
    context.certificates(&config.state_dir, &raw.cluster, &mut config.clusters)?;
    Ok(config)
}

impl Context<'_> {
    pub(super) fn error(&self, span: Option<Range<usize>>, message: impl Into<String>) -> Error {
        let line = span.map(|span| self.text.as_bytes().iter().take(span.start).filter(|b| **b == b'\n').count() + 1);
        Error { file: self.file.to_owned(), line, message: message.into() }
    }

    pub(super) fn at<T>(&self, value: &Spanned<T>, message: impl Into<String>) -> Error {
        self.error(Some(value.span()), message)
    }

    /// Relative paths are relative to the file's directory; `credential:NAME` is a file that systemd hands over.
    pub(super) fn path(&self, value: &Spanned<String>) -> Result<PathBuf, Error> {
        let text = value.get_ref();
        if let Some(name) = text.strip_prefix(CREDENTIAL) {
            if name.is_empty() || name.contains('/') || name.starts_with('.') {
                return Err(self.at(
                    value,
                    format!("{text:?} names no credential; write credential:NAME, as in LoadCredential=NAME:…"),
                ));
            }
            let directory = self.credentials.ok_or_else(|| {
                self.at(value, format!("{text:?} needs $CREDENTIALS_DIRECTORY, which systemd sets for a unit with LoadCredential={name}:…; outside systemd write a path"))
            })?;
            return Ok(directory.join(name));
        }
        if text.is_empty() {
            return Err(self.at(value, "an empty path; write an absolute path, or one relative to this file"));
        }
        Ok(self.file.parent().unwrap_or(Path::new("")).join(text))
    }

    pub(super) fn address(&self, value: &Spanned<String>) -> Result<SocketAddr, Error> {
        value.get_ref().parse().map_err(|_| {
            self.at(
                value,
                format!("{:?} is no address; write IP:PORT, such as 127.0.0.1:7411 or [::1]:7411", value.get_ref()),
            )
        })
    }

    pub(super) fn name<'v>(&self, value: &'v Spanned<String>, what: &str) -> Result<&'v str, Error> {
        let text = value.get_ref();
        if is_name(text) {
            return Ok(text);
        }
        Err(self
            .at(value, format!("{text:?} is no {what}; use 1 to 64 letters, digits, '-', '_', '.', the first no '.'")))
    }

    fn seal(&self, seal: &raw::Seal) -> Result<Seal, Error> {
        if let Some(one_more) = seal.former.get(FORMER_SEALS) {
            let message = format!(
                "more than {FORMER_SEALS} former keys; seal the PINs anew (keystorectl cluster reseal) and take them out"
            );
            return Err(self.at(one_more, message));
        }
        let former: Result<Vec<PathBuf>, Error> = seal.former.iter().map(|path| self.path(path)).collect();
        Ok(Seal { key: self.path(&seal.key)?, former: former? })
    }

    fn administrators(&self, names: &[Spanned<String>]) -> Result<BTreeSet<String>, Error> {
        if let Some(one_more) = names.get(limits::ADMINISTRATORS) {
            let message = format!(
                "more than {} administrators; name those who map principals, and let policies say what others may do",
                limits::ADMINISTRATORS
            );
            return Err(self.at(one_more, message));
        }
        let checked = names.iter().map(|name| match text::identity(name.get_ref()) {
            Ok(()) => Ok(name.get_ref().clone()),
            Err(wrong) => Err(self.at(name, format!("{:?}: {wrong}", name.get_ref()))),
        });
        checked.collect()
    }

    fn scope(&self, arn: &raw::Arn) -> Result<Scope, Error> {
        let part = |value: &Spanned<String>, what: &str| {
            let text = value.get_ref();
            let legal = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
            if (1..=32).contains(&text.len()) && text.bytes().all(legal) {
                return Ok(text.as_str().into());
            }
            Err(self.at(value, format!("{text:?} is no {what}; use 1 to 32 lower case letters, digits and '-'")))
        };
        let account = arn.account.get_ref();
        if account.len() != 12 || !account.bytes().all(|c| c.is_ascii_digit()) {
            return Err(
                self.at(&arn.account, format!("account {account:?} is not twelve digits, such as \"123456789012\""))
            );
        }
        Ok(Scope {
            partition: arn.partition.as_ref().map_or(Ok("aws".into()), |value| part(value, "partition"))?,
            region: part(&arn.region, "region")?,
            account: account.as_str().into(),
        })
    }

    fn log(&self, log: &raw::Log) -> Result<Log, Error> {
        let filter = log.filter.as_ref().map_or("info", |filter| filter.get_ref());
        if let (Some(value), Err(error)) = (&log.filter, tracing_subscriber::EnvFilter::builder().parse(filter)) {
            return Err(self.at(
                value,
                format!("{filter:?} is no filter ({error}); write something like info or keystored_cluster=debug,info"),
            ));
        }
        let json = matches!(log.format.unwrap_or(raw::LogFormat::Json), raw::LogFormat::Json);
        Ok(Log { json, filter: filter.to_owned() })
    }

    fn limits(&self, limits: &raw::Limits) -> Result<Limits, Error> {
        // The kernel's own bounds are far away from all of these; they keep a typing error from becoming an outage.
        let checked = Limits {
            default_deadline: self.millis(limits.default_deadline_ms.as_ref(), 250, 1..=60_000)?,
            default_control_deadline: self.millis(limits.default_control_deadline_ms.as_ref(), 30_000, 1..=600_000)?,
            items_in_work: self.count(limits.items_in_work.as_ref(), 16_384, 1..=1_000_000)?,
            items_in_work_per_principal: self.count(
                limits.items_in_work_per_principal.as_ref(),
                8_192,
                1..=1_000_000,
            )?,
            connections: self.count(limits.connections.as_ref(), 1_024, 1..=65_536)?,
            streams: self.count(limits.streams.as_ref(), 256, 1..=65_536)?,
            drain: Duration::from_secs(self.count(limits.drain_s.as_ref(), 10, 0..=600)? as u64),
            quotas: self.quotas(limits)?,
        };
        if checked.items_in_work_per_principal > checked.items_in_work {
            let message = format!(
                "items_in_work_per_principal is {}, more than items_in_work ({}); one principal cannot have more than all",
                checked.items_in_work_per_principal, checked.items_in_work
            );
            let span = limits.items_in_work_per_principal.as_ref().or(limits.items_in_work.as_ref()).map(Spanned::span);
            return Err(self.error(span, message));
        }
        Ok(checked)
    }

    fn quotas(&self, limits: &raw::Limits) -> Result<Quotas, Error> {
        let standard = Quotas::default();
        Ok(Quotas {
            keys_per_key_store: self.count(
                limits.keys_per_key_store.as_ref(),
                standard.keys_per_key_store,
                1..=100_000,
            )?,
            aliases_per_key: self.count(limits.aliases_per_key.as_ref(), standard.aliases_per_key, 1..=1_000)?,
            tags_per_key: self.count(limits.tags_per_key.as_ref(), standard.tags_per_key, 1..=1_000)?,
            on_demand_rotations: self.count(
                limits.on_demand_rotations.as_ref(),
                standard.on_demand_rotations,
                1..=10_000,
            )?,
        })
    }

    pub(super) fn count(
        &self,
        value: Option<&Spanned<u64>>,
        default: usize,
        range: RangeInclusive<u64>,
    ) -> Result<usize, Error> {
        let Some(value) = value else { return Ok(default) };
        let number = *value.get_ref();
        match usize::try_from(number) {
            Ok(fits) if range.contains(&number) => Ok(fits),
            _ => Err(self.at(value, format!("{number} is outside {} to {}", range.start(), range.end()))),
        }
    }

    pub(super) fn millis(
        &self,
        value: Option<&Spanned<u64>>,
        default: usize,
        range: RangeInclusive<u64>,
    ) -> Result<Duration, Error> {
        Ok(Duration::from_millis(self.count(value, default, range)? as u64))
    }

    fn cluster<'r>(
        &self,
        cluster: &'r Spanned<raw::Cluster>,
        hsm_ids: &mut BTreeSet<&'r str>,
    ) -> Result<Cluster, Error> {
        let raw = cluster.get_ref();
        let id = ClusterId::parse(raw.id.get_ref()).ok_or_else(|| {
            let message = format!(
                "{:?} is no cluster id; write cluster- and 11 to 16 characters of a-z, A-Z, 2-7, such as cluster-abcdefg2345",
                raw.id.get_ref()
            );
            self.at(&raw.id, message)
        })?;
        if let Some(name) = &raw.name {
            let message = "a cluster has no name; take the line out, and give the name to the key store that you make over \
                           it (keystorectl key-store create)";
            return Err(self.at(name, message));
        }
        if raw.hsm.len() > limits::HSMS {
            return Err(self.at(cluster, format!("{} HSMs; a cluster has at most {}", raw.hsm.len(), limits::HSMS)));
        }
        let mut hsms: Vec<Hsm> = Vec::with_capacity(raw.hsm.len());
        for hsm in &raw.hsm {
            let checked = self.hsm(hsm)?;
            let raw = hsm.get_ref();
            if !hsm_ids.insert(raw.id.get_ref()) {
                return Err(
                    self.at(&raw.id, format!("HSM id {:?} is used twice; each HSM has its own", raw.id.get_ref()))
                );
            }
            if let Some(twin) = hsms.iter().find(|other| same_token(other, &checked)) {
                let message = format!("names the same token as HSM {}; two HSMs are two tokens", twin.id);
                return Err(self.at(&raw.token_label, message));
            }
            hsms.push(checked);
        }
        let hash = |hsm: &Hsm| hsm.capabilities.wrap.oaep_hash;
        if let Some((at, other)) = hsms.iter().enumerate().find(|(_, other)| hash(other) != hash(&hsms[0])) {
            let message = format!(
                "HSM {} has RSA-OAEP with {:?} and HSM {} with {:?} (capabilities.wrap.oaep_hash); what one wraps another \
                 one has to unwrap, so that all HSMs of a cluster have the same",
                hsms[0].id,
                hash(&hsms[0]),
                other.id,
                hash(other)
            );
            return Err(self.at(&raw.hsm[at], message));
        }
        self.alone(&hsms, &raw.hsm)?;
        let zones = Zone::count(hsms.iter().map(|hsm| &hsm.zone));
        if zones < 2 {
            let message = format!(
                "cluster {id} has {} HSM(s) in {zones} zone(s); it needs at least two HSMs in two zones, each a \
                 [[cluster.hsm]], or one that replicates its keys over its `zones` by itself",
                hsms.len(),
            );
            return Err(self.at(cluster, message));
        }
        let tries = self.count(raw.login_tries.as_ref(), LOGIN_TRIES, 1..=9)?;
        for (hsm, place) in hsms.iter().zip(&raw.hsm) {
            let login = &hsm.capabilities.login;
            if login.changed_by == ChangedBy::Nobody && raw.rotation == Rotation::Connect {
                let message = format!(
                    "the user of HSM {} cannot change its PIN (capabilities.login.changed_by); set rotation = \"none\" for \
                     the cluster",
                    hsm.id
                );
                return Err(self.at(place, message));
            }
            if login.tries != 0 && tries as u64 >= login.tries {
                let message = format!(
                    "login_tries is {tries}, and HSM {} locks its user after {} (capabilities.login.tries); it must be less",
                    hsm.id, login.tries
                );
                let place = raw.login_tries.as_ref().map_or_else(|| place.span(), Spanned::span);
                return Err(self.error(Some(place), message));
            }
        }
        Ok(Cluster {
            id,
            hedge_after: self.millis(raw.hedge_after_ms.as_ref(), 40, 1..=60_000)?,
            verify_wraps: raw.verify_wraps,
            verify_unwraps: raw.verify_unwraps,
            pin_scope: raw.pin_scope,
            rotation: raw.rotation,
            login_tries: u32::try_from(tries).unwrap_or(1),
            hsms,
        })
    }
}

fn same_token(one: &Hsm, other: &Hsm) -> bool {
    let (a, b) = (&one.token_serials, &other.token_serials);
    let serials_differ = !a.is_empty() && !b.is_empty() && !a.iter().any(|serial| b.contains(serial));
    one.module == other.module
        && one.environment == other.environment
        && one.token_label == other.token_label
        && !serials_differ
}
