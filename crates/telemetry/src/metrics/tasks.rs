//! Tasks that live for long: how many turn, and how often one was started again.

use std::sync::atomic::Ordering;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Metrics;
use crate::watchdog::Reading;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TaskLabels {
    task: &'static str,
}

/// One series for each kind of task.
pub(super) struct TaskMetrics {
    running: Family<TaskLabels, Gauge>,
    silent: Family<TaskLabels, Gauge>,
    restarts: Family<TaskLabels, Counter>,
}

impl TaskMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let running = Family::<TaskLabels, Gauge>::default();
        registry.register("tasks", "Tasks that live for long, by kind", running.clone());
        let silent = Family::<TaskLabels, Gauge>::default();
        registry.register("tasks_silent", "Those of them that do not turn any more", silent.clone());
        let restarts = Family::<TaskLabels, Counter>::default();
        registry.register(
            "task_restarts",
            "How often one was started again after a fault in this program; each is worth a report",
            restarts.clone(),
        );
        Self { running, silent, restarts }
    }
}

impl Metrics {
    /// Takes over how the tasks are.
    pub fn tasks(&self, readings: &[Reading]) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for reading in readings {
            let labels = TaskLabels { task: reading.task.name() };
            self.tasks.running.get_or_create(&labels).set(count(reading.running));
            self.tasks.silent.get_or_create(&labels).set(count(reading.silent));
            self.tasks.restarts.get_or_create(&labels).inner().store(reading.restarts, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watchdog::Task;

    #[test]
    fn how_tasks_are_can_be_read() {
        let metrics = Metrics::new();
        metrics.tasks(&[Reading { task: Task::WorkerDriver, running: 6, silent: 1, restarts: 3 }]);
        let text = metrics.text();
        for line in [
            "keystored_tasks{task=\"worker-driver\"} 6",
            "keystored_tasks_silent{task=\"worker-driver\"} 1",
            "keystored_task_restarts_total{task=\"worker-driver\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
