//! The line that is shown while a drill runs.

use std::time::Duration;

use super::{
    model::{events::EventKind, history::Stream},
    observer::ObservedState,
};

/// The line on the state of a drill; it counts writes between one look and the next.
#[derive(Debug, Default)]
pub struct LiveView {
    before: [(u64, u64); 2],
}

impl LiveView {
    /// The line on the last second. `counts`: acknowledged and failed writes so far, by stream.
    pub fn line(
        &mut self,
        seen: &ObservedState,
        counts: [(u64, u64); 2],
        latest: Option<(EventKind, Duration)>,
    ) -> String {
        let rates = Stream::ALL.iter().zip(counts).zip(self.before).map(|((stream, now), before)| {
            let failed = if now.1 > 0 { format!(" ({} failed)", now.1) } else { String::new() };
            format!("{stream} {}/s{failed}", now.0.saturating_sub(before.0))
        });
        let rates = rates.collect::<Vec<_>>().join("  ");
        self.before = counts;
        let primary = seen.cluster.current_primary.as_deref().unwrap_or("?");
        let step = match latest {
            Some((EventKind::Started, _)) | None => String::new(),
            Some((kind, after)) => format!("  {} +{:.1} s", kind.title(), after.as_secs_f64()),
        };
        format!("{rates}  primary {primary}  {}/{} ready{step}", seen.cluster.ready, seen.cluster.wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::cnpg::ClusterStatus;

    #[test]
    fn rates_are_those_of_the_last_second() {
        let current_primary = Some("user-db-1".into());
        let cluster = ClusterStatus { current_primary, ready: 2, wanted: 3, ..ClusterStatus::default() };
        let seen = ObservedState { cluster, ..ObservedState::default() };
        let mut view = LiveView::default();
        assert_eq!(view.line(&seen, [(50, 0), (49, 0)], None), "SQL 50/s  HTTP 49/s  primary user-db-1  2/3 ready");
        let latest = Some((EventKind::TargetChosen, Duration::from_millis(1_240)));
        assert_eq!(
            view.line(&seen, [(60, 12), (49, 0)], latest),
            "SQL 10/s (12 failed)  HTTP 0/s  primary user-db-1  2/3 ready  target chosen +1.2 s"
        );
    }
}
