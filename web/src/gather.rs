//! Equal questions are gathered into one query.
//!
//! While a query runs, equal questions that come in wait together for the next one and share
//! its answer. They never join the one under way: it may have started before a write that
//! the client already knows of. So each answer is as fresh as if it had been asked for alone,
//! and a crowd that comes back after a failover is one query per thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;

use tokio::sync::oneshot;

/// The questions that wait, by what they ask.
pub struct Gather<K, V> {
    waiting: Rc<RefCell<HashMap<K, Vec<oneshot::Sender<V>>>>>,
}

// Derived, it would ask for keys and values that have a default too.
impl<K, V> Default for Gather<K, V> {
    fn default() -> Self {
        Self { waiting: Rc::default() }
    }
}

impl<K: Clone + Eq + Hash + 'static, V: Clone + 'static> Gather<K, V> {
    /// Asks `query` for `key`, together with all that ask for it now. `None` only where the
    /// query panicked.
    pub async fn ask<Q, F>(&self, key: K, query: Q) -> Option<V>
    where
        Q: Fn(K) -> F + 'static,
        F: Future<Output = V> + 'static,
    {
        let (sender, answer) = oneshot::channel();
        let mut first = false;
        self.waiting
            .borrow_mut()
            .entry(key.clone())
            .or_insert_with(|| {
                first = true;
                Vec::new()
            })
            .push(sender);
        if first {
            actix_web::rt::spawn(rounds(Rc::clone(&self.waiting), key, query));
        }
        answer.await.ok()
    }
}

/// Runs rounds of one key, until nobody waits for it.
async fn rounds<K, V, Q, F>(waiting: Rc<RefCell<HashMap<K, Vec<oneshot::Sender<V>>>>>, key: K, query: Q)
where
    K: Clone + Eq + Hash,
    V: Clone,
    Q: Fn(K) -> F,
    F: Future<Output = V>,
{
    // Takes the entry away should a query panic, so that the next question starts anew.
    struct Ended<'a, K: Eq + Hash, V>(&'a RefCell<HashMap<K, Vec<oneshot::Sender<V>>>>, K);
    impl<K: Eq + Hash, V> Drop for Ended<'_, K, V> {
        fn drop(&mut self) {
            self.0.borrow_mut().remove(&self.1);
        }
    }
    let ended = Ended(&waiting, key.clone());
    loop {
        let round = waiting.borrow_mut().get_mut(&key).map(std::mem::take).unwrap_or_default();
        if round.is_empty() {
            break;
        }
        let value = query(key.clone()).await;
        for sender in round {
            // One whose client has gone wants no answer.
            let _ = sender.send(value.clone());
        }
    }
    drop(ended);
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;

    #[test]
    fn nobody_joins_a_query_under_way() {
        let started = Rc::new(Cell::new(0));
        actix_web::rt::System::new().block_on(async {
            let gather = Rc::new(Gather::<u8, u32>::default());
            let ask = |after: u64| {
                let (gather, started) = (Rc::clone(&gather), Rc::clone(&started));
                actix_web::rt::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(after)).await;
                    let query = move |_| {
                        let started = Rc::clone(&started);
                        async move {
                            started.set(started.get() + 1);
                            let n = started.get();
                            tokio::time::sleep(Duration::from_millis(200)).await;
                            n
                        }
                    };
                    gather.ask(1, query).await
                })
            };
            let first = ask(0);
            let late: Vec<_> = (0..20).map(|_| ask(100)).collect();
            assert_eq!(first.await.unwrap(), Some(1));
            for one in late {
                assert_eq!(one.await.unwrap(), Some(2), "asked while the first query ran");
            }
        });
        assert_eq!(started.get(), 2);
    }
}
