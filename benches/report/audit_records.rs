//! Records of Encrypt as a site with some callers, keys and very many things to encrypt has them. Whatever differs from call
//! to call in a daemon differs here, and is not told beforehand: a log of records that are all alike would take up nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use audit::event::{
    Actor, Asked, Done, Event, EventId, Fields, Items, KMS, Key, Length, NONE, Phase, Request, Says, Served, Shape, Tls,
};
use model::id::Scope;
use uuid::Builder;

/// Of each there are so many.
const PRINCIPALS: u64 = 20;
const KEYS: u64 = 50;
const TENANTS: u64 = 5_000;
const ADDRESSES: u64 = 200;
const USER_AGENTS: [&str; 3] =
    ["keystorectl/0.1.0", "aws-sdk-java/2.31.1 md/io#sync lang/java#21.0.2", "grpc-go/1.71.0"];
/// Between two calls, on average.
const MILLIS: u64 = 2;

pub(super) type Context = BTreeMap<String, String>;

/// Who calls and what there is.
pub(super) struct Site {
    scope: Scope,
    /// Ids and ARNs.
    principals: Vec<(String, String)>,
    keys: Vec<Arc<[Key]>>,
    served: Arc<[Served]>,
    nothing: Fields,
    unix_millis: i64,
    /// State of a generator of numbers (splitmix64).
    random: u64,
}

/// One call that has ended.
pub(super) struct Call<'a> {
    site: &'a Site,
    items: Items,
    principal: usize,
    key: usize,
    address: IpAddr,
    user_agent: &'static str,
    request_id: String,
    latency: Duration,
    decided_by: String,
}

impl Site {
    /// Whose first call is at this time.
    pub(super) fn new(unix_millis: i64) -> Self {
        let scope = Scope { partition: "aws".into(), region: "eu-central-1".into(), account: "111122223333".into() };
        let served = [("hsm-a", "a"), ("hsm-b", "b")];
        let mut site = Self {
            scope,
            principals: Vec::new(),
            keys: Vec::new(),
            served: served.map(|(hsm, zone)| Served { hsm: hsm.into(), zone: zone.into() }).into(),
            nothing: Fields::new(),
            unix_millis,
            random: 1,
        };
        site.principals = (0..PRINCIPALS)
            .map(|number| {
                let id = format!("AIDA{:017X}", site.draw() >> 1);
                (id, format!("arn:aws:iam::111122223333:user/services/service-{number}"))
            })
            .collect();
        site.keys = (0..KEYS)
            .map(|_| {
                let key = Key {
                    arn: format!("arn:aws:kms:eu-central-1:111122223333:key/{}", site.uuid()).into(),
                    version: u32::try_from(site.draw() % 4).unwrap_or_default(),
                    material: (0..4).map(|_| format!("{:016x}", site.draw())).collect::<String>().into(),
                    key_store: "cks-1a2b3c4d5e6f70819".into(),
                };
                Arc::from([key])
            })
            .collect();
        site
    }

    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut drawn = self.random;
        drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        drawn ^ (drawn >> 31)
    }

    fn uuid(&mut self) -> String {
        let bytes = (u128::from(self.draw()) << 64) | u128::from(self.draw());
        Builder::from_random_bytes(bytes.to_be_bytes()).into_uuid().to_string()
    }

    /// Of something that nothing was encrypted for before.
    pub(super) fn context(&mut self) -> Context {
        let (tenant, object) = (self.draw() % TENANTS, self.uuid());
        [("object".to_owned(), object), ("tenant".to_owned(), format!("tenant-{tenant}"))].into()
    }

    /// The next call, with an item for each of these contexts.
    pub(super) fn call(&mut self, contexts: &[Context]) -> Call<'_> {
        let drawn = self.draw();
        self.unix_millis += i64::try_from(drawn % (2 * MILLIS + 1)).unwrap_or_default();
        let pick = |of: u64, bits: u32| usize::try_from((drawn >> bits) % of).unwrap_or_default();
        let (principal, key, zone) = (pick(PRINCIPALS, 3), pick(KEYS, 11), pick(2, 19));
        let address = Ipv4Addr::new(10, 20, 0, u8::try_from(pick(ADDRESSES, 20)).unwrap_or_default());
        let user_agent = USER_AGENTS[principal % USER_AGENTS.len()];
        let (request_id, latency) = (self.uuid(), Duration::from_micros(180 + self.draw() % 2_000));
        let keys = &self.keys[key];
        let mut asked = Asked::new(Shape::Cipher, contexts.len());
        for context in contexts {
            let name = keys.first().map_or("", |key| &key.arn);
            asked.note(Says { key: name, context, source: None, length: Length::Unsaid, dry_run: false });
        }
        let served = u32::try_from(zone).unwrap_or_default();
        let done = Done { key: 0, source_key: NONE, served, source_served: NONE, failure: NONE };
        let items = Items::new(
            Arc::new(asked),
            Arc::clone(keys),
            Arc::clone(&self.served),
            Vec::new(),
            std::iter::repeat_n(done, contexts.len()),
        );
        Call {
            items,
            principal,
            key,
            address: address.into(),
            user_agent,
            request_id,
            latency,
            decided_by: format!("allowed by identity policy Service{principal} statement 3 (UseOwnKeys)"),
            site: self,
        }
    }
}

impl Call<'_> {
    /// Its record.
    pub(super) fn event<T>(&self, take: impl FnOnce(&Event<'_>) -> T) -> T {
        let Self { site, items, principal, key, .. } = self;
        let (id, arn) = &site.principals[*principal];
        let resources: Vec<&str> = site.keys[*key].iter().map(|key| &*key.arn).collect();
        take(&Event {
            id: EventId::new(site.unix_millis),
            unix_millis: site.unix_millis,
            source: KMS,
            name: "Encrypt",
            scope: &site.scope,
            actor: Actor::Principal { id, arn, access_key: None },
            address: Some(self.address),
            user_agent: Some(self.user_agent),
            tls: Some(Tls {
                version: "TLSv1.3",
                cipher_suite: "TLS_AES_256_GCM_SHA384",
                host: Some("kms.example.com"),
            }),
            failure: None,
            request: Request::Items(items),
            response: None,
            interface: Some("grpc"),
            certificate: Some("cn:service"),
            phase: Phase::Outcome,
            intent: None,
            latency: Some(self.latency),
            decided_by: Some(&self.decided_by),
            additional: &site.nothing,
            request_id: &self.request_id,
            read_only: true,
            resources: &resources,
        })
    }
}
