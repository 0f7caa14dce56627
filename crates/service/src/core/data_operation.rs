//! What tells one operation on items from another.

use crate::core::access::Said;
use crate::core::hsm_cluster::HsmCluster;
use crate::core::key_access::KeyAccess;
use crate::core::keyring::Target;
use crate::core::shares::Clusters;
use crate::{Error, Extras};
use audit::event::{Says, Shape};
use cluster::Failed;
use cluster::item::{Done, ItemOperation, Keyed};
use model::call_options::CallOptions;
use model::operation::Operation;

/// What tells one operation on items from another. Unary calls are batches of one.
pub(crate) trait DataOperation: Clone + Send + Sync + 'static {
    /// An item as it comes.
    type Input: Send + 'static;
    /// What a cluster is asked to do with it.
    type Work: ItemOperation;
    /// An item's result.
    type Output: Send + 'static;

    fn operation(&self) -> Operation;
    /// The parameter whose bytes [`limits::BATCH_BYTES`](model::limits::BATCH_BYTES) bounds.
    fn payload_field(&self) -> &'static str;
    /// Those bytes, of one item.
    fn payload_bytes(&self, item: &Self::Input) -> usize;
    /// What the items of its calls look like in records.
    fn shape(&self) -> Shape;
    /// What an item says that stands in the record.
    fn says<'i>(&self, item: &'i Self::Input) -> Says<'i>;
    /// What may come with an item.
    fn extras<'i>(&self, item: &'i mut Self::Input) -> &'i mut Extras;
    /// Each item takes one encryption of its key version's budget.
    fn encrypts(&self) -> bool;
    /// Checks an item and makes it ready, whose extras were looked at; decides everything that can be decided before an HSM.
    fn prepare<'k>(&self, access: &KeyAccess<'_, 'k>, item: Self::Input) -> Result<Prepared<'k, ItemOf<Self>>, Error>;
    /// Has items done.
    fn carry_out(
        &self,
        clusters: Clusters,
        items: Vec<Keyed<ItemOf<Self>>>,
        options: CallOptions,
    ) -> impl Future<Output = Vec<Result<Done<AnswerOf<Self>>, Failed>>> + Send {
        async move { answers_of::<Self::Work>(&*clusters.hsm_cluster, items, options).await }
    }
    /// Makes the caller's result.
    fn finish(&self, used: Used<'_>, answer: AnswerOf<Self>) -> Self::Output;
}

/// An item as it travels to a worker.
pub(crate) type ItemOf<V> = <<V as DataOperation>::Work as ItemOperation>::Item;
/// What comes back for it.
pub(crate) type AnswerOf<V> = <<V as DataOperation>::Work as ItemOperation>::Output;

/// An item that may be done.
pub(crate) struct Prepared<'k, I> {
    /// The key version that it is done with.
    pub(crate) target: Target<'k>,
    /// What was allowed: it is asked for again before the result is given out.
    pub(crate) said: Said,
    /// The same of the key that opens something, where there are two.
    pub(crate) source: Option<(Target<'k>, Said)>,
    /// Nothing is to be done.
    pub(crate) dry_run: bool,
    pub(crate) keyed: Keyed<I>,
}

/// The key that an item was done with, and the one that it was opened with where there are two.
#[derive(Clone, Copy)]
pub(crate) struct Used<'a> {
    pub(crate) target: Target<'a>,
    pub(crate) source: Option<Target<'a>>,
}

/// What a cluster answers to a batch. Answers of another operation count as none.
pub(crate) async fn answers_of<O: ItemOperation>(
    hsm_cluster: &dyn HsmCluster,
    items: Vec<Keyed<O::Item>>,
    options: CallOptions,
) -> Vec<Result<Done<O::Output>, Failed>> {
    O::answers(hsm_cluster.carry_out(O::batch(items), options).await).unwrap_or_default()
}
