//! Says when the configuration file may say something else.
//!
//! The directory is watched and not the file: editors and Kubernetes replace the file, and a watch on it
//! would look at the old one for ever. In a Kubernetes volume the file itself is never named in an event
//! (only `..data` is swapped), so every event means: look at the text again.

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use ring::digest;
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, timeout},
};

/// Watches one configuration file until it is dropped.
pub struct Watch {
    path: PathBuf,
    /// Dropping it ends the events. `None` where the system gave none; then the poll is all there is.
    _watcher: Option<RecommendedWatcher>,
    /// Something happened in the directory.
    events: Arc<Notify>,
    /// What the file said when `changed` last returned, or when the watch began.
    seen: Option<Digest>,
    /// Something happened that was not looked at yet: kept here and not in the future, which may be
    /// dropped at any await.
    unlooked: bool,
}

type Digest = [u8; digest::SHA256_OUTPUT_LEN];

impl Watch {
    /// Begins to watch. Where the system refuses (too many watches), the file is only looked at every
    /// [`Watch::POLL_EVERY`]; a log line says so.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        let events = Arc::new(Notify::new());
        // Before the first look, so that no change can fall between the two.
        let watcher = watch_directory(path, Arc::clone(&events))
            .inspect_err(|error| {
                tracing::warn!(
                    file = %path.display(), %error,
                    "the configuration's directory cannot be watched; looking at the file now and then"
                );
            })
            .ok();
        let seen = read(path);
        Self { path: path.to_owned(), _watcher: watcher, events, seen, unlooked: false }
    }

    /// Returns when the file says something else than at the last return, or has gone. May be dropped at
    /// any time without losing a change.
    pub async fn changed(&mut self) {
        loop {
            if !self.unlooked {
                // A lost event costs this long and no more.
                let _ = timeout(Self::POLL_EVERY, self.events.notified()).await;
                self.unlooked = true;
            }
            self.quiet().await;
            let path = self.path.clone();
            let now = tokio::task::spawn_blocking(move || read(&path)).await.unwrap_or(self.seen);
            self.unlooked = false;
            if now != self.seen {
                self.seen = now;
                return;
            }
        }
    }

    /// Waits until nothing has happened for a while: an editor writes more than once.
    async fn quiet(&self) {
        let at_the_latest = Instant::now() + Self::QUIET_WITHIN;
        while timeout(Self::QUIET_FOR, self.events.notified()).await.is_ok() {
            // A database beside the file may keep its directory busy for ever.
            if Instant::now() >= at_the_latest {
                return;
            }
        }
    }

    /// How long nothing must have happened before the file is read.
    pub const QUIET_FOR: Duration = Duration::from_millis(300);

    /// When it is read although something keeps happening.
    pub const QUIET_WITHIN: Duration = Duration::from_secs(3);

    /// How often it is looked at without any event.
    pub const POLL_EVERY: Duration = Duration::from_secs(30);
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Watches the configuration file and those that it names.
pub struct Watches {
    paths: Vec<PathBuf>,
    /// One task for each; it ends when its file says something else.
    watching: JoinSet<Watch>,
}

impl Watches {
    /// Begins to watch.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>) -> Self {
        let mut watches = Self { paths: Vec::new(), watching: JoinSet::new() };
        watches.follow(paths);
        watches
    }

    /// Watches these from now on; true when they are others than before. What one of them said until now is not
    /// compared then, and must be read once more.
    pub fn follow(&mut self, paths: Vec<PathBuf>) -> bool {
        if paths == self.paths {
            return false;
        }
        self.watching = JoinSet::new();
        paths.iter().for_each(|path| self.watch(Watch::new(path)));
        self.paths = paths;
        true
    }

    /// Returns when one of them says something else. May be dropped at any time without losing a change.
    pub async fn changed(&mut self) {
        match self.watching.join_next().await {
            Some(Ok(watch)) => self.watch(watch),
            // One that failed inside watches nothing any more; the others do.
            Some(Err(error)) => tracing::error!(%error, "a file is not watched any more"),
            None => std::future::pending().await,
        }
    }

    fn watch(&mut self, mut watch: Watch) {
        self.watching.spawn(async move {
            watch.changed().await;
            watch
        });
    }
}

fn watch_directory(path: &Path, events: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Our own reading is an event too, and would wake us for ever. An error may have swallowed one.
        if !event.is_ok_and(|event| event.kind.is_access()) {
            events.notify_one();
        }
    })?;
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    watcher.watch(directory, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// A digest of what the file says, through all links; `None` when it cannot be read.
fn read(path: &Path) -> Option<Digest> {
    // A pipe would be waited for without end.
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(super::BYTES_MAX + 1).read_to_end(&mut bytes).ok()?;
    let digest = digest::digest(&digest::SHA256, &bytes);
    Some(digest.as_ref().try_into().expect("a SHA-256 digest has its length"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};
    use tempfile::TempDir;

    /// Far beyond what a change takes, so that a slow machine does not fail, and below the poll, so
    /// that only an event can have been the reason.
    const SOON: Duration = Duration::from_secs(20);

    fn directory_with(text: &str) -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.yaml");
        fs::write(&path, text).unwrap();
        (directory, path)
    }

    async fn sees_a_change(watch: &mut Watch) {
        timeout(SOON, watch.changed()).await.expect("the change is seen through an event");
    }

    async fn sees_nothing(watch: &mut Watch) {
        let long = Watch::QUIET_FOR * 4;
        assert!(timeout(long, watch.changed()).await.is_err(), "nothing has changed");
    }

    #[tokio::test]
    async fn a_file_that_is_written_in_place_is_seen() {
        let (_directory, path) = directory_with("one");
        let mut watch = Watch::new(&path);
        fs::write(&path, "two").unwrap();
        sees_a_change(&mut watch).await;
        sees_nothing(&mut watch).await;
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_is_seen_again_and_again() {
        let (directory, path) = directory_with("one");
        let mut watch = Watch::new(&path);
        for text in ["two", "three", "four"] {
            let new = directory.path().join("config.yaml.new");
            fs::write(&new, text).unwrap();
            fs::rename(&new, &path).unwrap();
            sees_a_change(&mut watch).await;
        }
    }

    #[tokio::test]
    async fn a_kubernetes_volume_that_is_swapped_is_seen_again_and_again() {
        let directory = tempfile::tempdir().unwrap();
        let publish = |version: &str| {
            let folder = directory.path().join(format!("..{version}"));
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("config.yaml"), version).unwrap();
            symlink(format!("..{version}"), directory.path().join("..data_tmp")).unwrap();
            fs::rename(directory.path().join("..data_tmp"), directory.path().join("..data"))
                .unwrap();
        };
        publish("one");
        let path = directory.path().join("config.yaml");
        symlink("..data/config.yaml", &path).unwrap();
        let mut watch = Watch::new(&path);
        for (old, new) in [("one", "two"), ("two", "three"), ("three", "four")] {
            publish(new);
            fs::remove_dir_all(directory.path().join(format!("..{old}"))).unwrap();
            sees_a_change(&mut watch).await;
        }
    }

    #[tokio::test]
    async fn a_file_that_goes_and_one_that_comes_back_are_changes() {
        let (_directory, path) = directory_with("one");
        let mut watch = Watch::new(&path);
        fs::remove_file(&path).unwrap();
        sees_a_change(&mut watch).await;
        fs::write(&path, "one").unwrap();
        sees_a_change(&mut watch).await;
    }

    #[tokio::test]
    async fn of_several_files_each_is_seen_and_those_that_are_named_later_too() {
        let (directory, one) = directory_with("one");
        let [two, three] = ["two", "three"].map(|name| directory.path().join(name));
        fs::write(&two, "two").unwrap();
        fs::write(&three, "three").unwrap();
        let mut watches = Watches::new(vec![one.clone(), two.clone()]);
        for path in [&two, &one, &two] {
            let before = fs::read_to_string(path).unwrap();
            fs::write(path, before + " again").unwrap();
            timeout(SOON, watches.changed()).await.expect("the change is seen");
        }
        assert!(!watches.follow(vec![one.clone(), two]));
        assert!(watches.follow(vec![one, three.clone()]));
        fs::write(&three, "another").unwrap();
        timeout(SOON, watches.changed()).await.expect("the change of the third is seen");
    }

    #[tokio::test]
    async fn the_same_text_and_other_files_are_no_change() {
        let (directory, path) = directory_with("one");
        let mut watch = Watch::new(&path);
        fs::write(&path, "one").unwrap();
        fs::write(directory.path().join("other"), "two").unwrap();
        sees_nothing(&mut watch).await;
    }

    #[tokio::test]
    async fn our_own_reading_wakes_nobody() {
        let (_directory, path) = directory_with("one");
        let mut watch = Watch::new(&path);
        fs::write(&path, "two").unwrap();
        sees_a_change(&mut watch).await;
        assert!(read(&path).is_some());
        assert!(timeout(Watch::QUIET_FOR, watch.events.notified()).await.is_err());
    }

    #[tokio::test]
    async fn a_wait_that_is_dropped_half_way_loses_no_change() {
        let (_directory, path) = directory_with("one");
        let mut watch = Watch::new(&path);
        fs::write(&path, "two").unwrap();
        // Drops the future while it waits for quiet, again and again, until the text has been looked
        // at; only the last one is allowed to finish.
        let brief = Watch::QUIET_FOR / 3;
        assert!(timeout(brief, watch.changed()).await.is_err());
        assert!(timeout(brief, watch.changed()).await.is_err());
        sees_a_change(&mut watch).await;
    }

    #[tokio::test]
    async fn a_busy_directory_delays_a_change_and_does_not_hide_it() {
        let (directory, path) = directory_with("one");
        let mut watch = Watch::new(&path);
        let noise = directory.path().join("tokens.db-wal");
        fs::write(&path, "two").unwrap();
        let busy = async {
            let mut ticks = tokio::time::interval(Watch::QUIET_FOR / 6);
            loop {
                ticks.tick().await;
                fs::write(&noise, "x").unwrap();
            }
        };
        tokio::select! {
            () = sees_a_change(&mut watch) => {}
            () = busy => unreachable!("it has no end"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_poll_finds_what_no_event_told() {
        let (_directory, path) = directory_with("one");
        let mut watch = Watch::new(&path);
        watch._watcher = None;
        fs::write(&path, "two").unwrap();
        watch.events = Arc::new(Notify::new());
        let before = Instant::now();
        watch.changed().await;
        assert!(before.elapsed() >= Watch::POLL_EVERY);
    }
}
