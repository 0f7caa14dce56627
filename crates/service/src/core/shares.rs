//! The items of a call, by the clusters in which they are done.

use std::sync::Arc;

use crate::Error;
use crate::core::hsm_cluster::HsmCluster;
use crate::core::keyring::Target;
use cluster::item::Keyed;

/// Where items are done.
#[derive(Clone)]
pub(crate) struct Clusters {
    pub(crate) hsm_cluster: Arc<dyn HsmCluster>,
    /// That of what they open, where it is another one.
    pub(crate) source: Option<Arc<dyn HsmCluster>>,
}

/// The same, where the keyring has them: of each item, and counted references only of what is new.
#[derive(Clone, Copy)]
pub(super) struct ClustersOf<'a> {
    hsm_cluster: &'a Arc<dyn HsmCluster>,
    source: Option<&'a Arc<dyn HsmCluster>>,
}

impl<'a> ClustersOf<'a> {
    pub(super) fn of(target: Target<'a>, source: Option<Target<'a>>) -> Result<Self, Error> {
        let hsm_cluster = cluster_of(target)?;
        let source = source.map(cluster_of).transpose()?;
        Ok(Self { source: source.filter(|source| !Arc::ptr_eq(source, hsm_cluster)), hsm_cluster })
    }

    fn are(self, known: &Clusters) -> bool {
        Arc::ptr_eq(self.hsm_cluster, &known.hsm_cluster)
            && match (self.source, &known.source) {
                (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                (a, b) => a.is_none() && b.is_none(),
            }
    }

    fn counted(self) -> Clusters {
        Clusters { hsm_cluster: Arc::clone(self.hsm_cluster), source: self.source.cloned() }
    }
}

/// Items that are done together, and where their results belong.
pub(super) struct Share<I> {
    pub(super) clusters: Clusters,
    pub(super) items: Vec<Keyed<I>>,
    pub(super) places: Vec<usize>,
}

fn cluster_of<'k>(Target { entry, .. }: Target<'k>) -> Result<&'k Arc<dyn HsmCluster>, Error> {
    let members = entry.members.as_ref().ok_or_else(|| entry.refusal(&[]))?;
    Ok(&members.hsm_cluster)
}

pub(super) fn share_of<'a, I>(
    shares: &'a mut Vec<Share<I>>,
    clusters: ClustersOf<'_>,
    room: usize,
) -> &'a mut Share<I> {
    let known = shares.iter().position(|share| clusters.are(&share.clusters)).unwrap_or(shares.len());
    if known == shares.len() {
        let (items, places) = (Vec::with_capacity(room), Vec::with_capacity(room));
        shares.push(Share { clusters: clusters.counted(), items, places });
    }
    &mut shares[known]
}
