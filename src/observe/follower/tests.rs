//! What happens to logs, and that each line is handed out once all the same.

use super::*;
use std::{fs::OpenOptions, io::Write};

/// A publisher with a log, and who follows it.
struct Scene {
    folder: tempfile::TempDir,
    follower: Follower,
    written: Vec<String>,
    seen: Vec<String>,
    found: Round,
    /// A file system's time moves on in steps, and ours in seconds.
    now: u64,
}

impl Scene {
    /// A log that is there, and follows from its beginning.
    fn new() -> Self {
        let mut scene = Self::without_a_log(Start::Beginning);
        fs::write(scene.path(), "").unwrap();
        scene.stamp("publisher.log");
        scene
    }

    fn without_a_log(start: Start) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let follower = Follower::new(folder.path().join("publisher.log"), start, None);
        let (written, seen, found) = (Vec::new(), Vec::new(), Round::default());
        Self { folder, follower, written, seen, found, now: 1_800_000_000 }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("publisher.log")
    }

    fn named(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&mut self, lines: usize) {
        self.write_into("publisher.log", lines);
    }

    /// Long enough to tell one position from another.
    fn write_into(&mut self, name: &str, lines: usize) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.named(name)).unwrap();
        for _ in 0..lines {
            let line = format!("line {} of the publisher, at some instant", self.written.len());
            writeln!(file, "{line}").unwrap();
            self.written.push(line);
        }
        self.stamp(name);
    }

    /// The file was written just now.
    fn stamp(&mut self, name: &str) {
        self.now += 1;
        let at = std::time::UNIX_EPOCH + Duration::from_secs(self.now);
        let file = OpenOptions::new().write(true).open(self.named(name)).unwrap();
        file.set_modified(at).unwrap();
    }

    fn look(&mut self) {
        loop {
            let seen = &mut self.seen;
            let round = self.follower.round(&mut |line| {
                let Line::Bytes(line) = line else { panic!("no line is that long") };
                let line = String::from_utf8(line.to_owned()).unwrap();
                if line != HEADER {
                    seen.push(line);
                }
            });
            let Round { more, gaps, partial } = round.unwrap();
            self.found.gaps += gaps;
            self.found.partial += partial;
            if !more {
                return;
            }
        }
    }

    /// A line that stands at the beginning of each file.
    fn write_header(&mut self) {
        let mut file = OpenOptions::new().append(true).open(self.path()).unwrap();
        writeln!(file, "{HEADER}").unwrap();
        self.stamp("publisher.log");
    }

    /// The program ends and starts again; what it remembers goes through text.
    fn restart(&mut self) {
        let text = serde_json::to_string(&self.follower.position()).unwrap();
        let position = serde_json::from_str(&text).unwrap();
        self.follower = Follower::new(self.path(), Start::End, Some(position));
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.named(from), self.named(to)).unwrap();
    }

    /// As logrotate does it: a copy, then the same file from its beginning.
    fn copy_and_truncate(&mut self, to: &str) {
        fs::copy(self.path(), self.named(to)).unwrap();
        self.stamp(to);
        self.truncate();
    }

    fn truncate(&mut self) {
        OpenOptions::new().write(true).open(self.path()).unwrap().set_len(0).unwrap();
        self.stamp("publisher.log");
    }

    #[track_caller]
    fn assert_each_line_was_seen_once(&mut self) {
        self.look();
        let mut seen = self.seen.clone();
        seen.sort_by_key(|line| line.split(' ').nth(1).unwrap().parse::<usize>().unwrap());
        assert_eq!(seen, self.written);
        assert_eq!(self.found, Round::default());
    }
}

const HEADER: &str = "# The log of the publisher";

#[test]
fn what_was_there_before_is_seen_only_by_who_begins_at_the_beginning() {
    for (start, expected) in [(Start::Beginning, 5), (Start::End, 2)] {
        let mut scene = Scene::without_a_log(start);
        scene.write(3);
        scene.look();
        scene.write(2);
        scene.look();
        assert_eq!(scene.seen, scene.written[5 - expected..], "{start:?}");
    }
}

#[test]
fn a_log_that_appears_later_is_read_from_its_beginning() {
    let mut scene = Scene::without_a_log(Start::End);
    scene.look();
    scene.write(2);
    scene.assert_each_line_was_seen_once();
}

#[test]
fn the_rest_of_a_renamed_log_is_read_before_its_successor() {
    let mut scene = Scene::new();
    scene.write(3);
    scene.look();
    scene.write(3);
    scene.rename("publisher.log", "publisher.log.1");
    scene.write(3);
    scene.look();
    assert_eq!(scene.seen, scene.written, "in this order");
    // The publisher was not told yet and goes on in the old file.
    scene.write_into("publisher.log.1", 2);
    scene.write(2);
    scene.assert_each_line_was_seen_once();
}

#[test]
fn a_log_that_was_renamed_twice_between_two_looks_is_read_whole() {
    let mut scene = Scene::new();
    scene.write(3);
    scene.look();
    scene.write(3);
    scene.rename("publisher.log", "publisher.log.1");
    scene.write(3);
    scene.rename("publisher.log.1", "publisher.log.2");
    scene.rename("publisher.log", "publisher.log.1");
    scene.write(3);
    scene.assert_each_line_was_seen_once();
}

#[test]
fn a_log_that_is_removed_or_compressed_while_it_is_open_is_read_to_its_end() {
    let mut scene = Scene::new();
    scene.write(3);
    scene.look();
    scene.write(3);
    fs::remove_file(scene.path()).unwrap();
    scene.look();
    scene.write(3);
    scene.look();
    scene.write(3);
    scene.rename("publisher.log", "publisher.log.1.gz");
    scene.write(3);
    scene.assert_each_line_was_seen_once();
}

#[test]
fn the_rest_of_a_log_that_was_copied_away_is_read_from_the_copy() {
    let mut scene = Scene::new();
    scene.write(10);
    scene.look();
    scene.write(10);
    scene.copy_and_truncate("publisher.log.1");
    scene.write(3);
    scene.look();
    // Nothing new in the copy, and more in the log than there was before.
    scene.rename("publisher.log.1", "publisher.log.2");
    scene.copy_and_truncate("publisher.log.1");
    scene.write(40);
    scene.look();
    // Twice between two looks.
    scene.write(5);
    scene.copy_and_truncate("publisher.log-20261122");
    scene.write(7);
    scene.copy_and_truncate("publisher.log-20261123");
    scene.write(9);
    scene.assert_each_line_was_seen_once();
}

#[test]
fn what_is_written_between_copy_and_truncation_is_seen_once_or_never() {
    for looks_between in [false, true] {
        let mut scene = Scene::new();
        scene.write(10);
        scene.look();
        fs::copy(scene.path(), scene.named("publisher.log.1")).unwrap();
        scene.stamp("publisher.log.1");
        scene.write(2);
        if looks_between {
            scene.look();
        } else {
            // They are in no file any more.
            scene.written.truncate(10);
        }
        scene.truncate();
        scene.write(3);
        scene.look();
        assert_eq!(scene.seen, scene.written, "{looks_between}");
    }
}

#[test]
fn a_copy_of_what_was_read_is_not_read_again() {
    let mut scene = Scene::new();
    for round in 0..6 {
        scene.write(2);
        scene.look();
        scene.copy_and_truncate(&format!("publisher.log.{}", round % 3));
        scene.look();
    }
    scene.rename("publisher.log", "publisher.log.9");
    scene.write(1);
    scene.assert_each_line_was_seen_once();
}

#[test]
fn what_begins_and_is_copied_away_between_two_looks_is_read() {
    for restarts in [false, true] {
        let mut scene = Scene::new();
        scene.write(10);
        scene.look();
        scene.copy_and_truncate("publisher.log.1");
        scene.look();
        if restarts {
            scene.restart();
        }
        scene.write(3);
        scene.copy_and_truncate("publisher.log.2");
        scene.write(2);
        scene.assert_each_line_was_seen_once();
    }
}

#[test]
fn files_that_begin_alike_are_told_apart_when_only_their_beginning_was_read() {
    for restarts in [false, true] {
        let mut scene = Scene::new();
        scene.write_header();
        scene.write(3);
        scene.look();
        scene.copy_and_truncate("publisher.log.1");
        scene.write_header();
        scene.look();
        if restarts {
            scene.restart();
        }
        scene.write(2);
        scene.copy_and_truncate("publisher.log.2");
        scene.write_header();
        scene.write(1);
        scene.assert_each_line_was_seen_once();
    }
}

#[test]
fn other_logs_whose_names_begin_alike_are_not_ours() {
    let mut scene = Scene::new();
    scene.write(5);
    scene.look();
    let others =
        ["publisher.log.json", "publisher.log.lock", "publisher.logs", "publisher.log.1.gz"];
    let go_on = |scene: &mut Scene| {
        for name in others {
            fs::write(scene.named(name), "something else\n".repeat(50)).unwrap();
            scene.stamp(name);
        }
        scene.look();
    };
    scene.write(5);
    scene.copy_and_truncate("publisher.log.1");
    scene.write(5);
    go_on(&mut scene);
    scene.rename("publisher.log", "publisher.log.2");
    scene.write(5);
    go_on(&mut scene);
    scene.assert_each_line_was_seen_once();
}

#[test]
fn what_was_truncated_without_a_copy_is_a_gap_and_nothing_is_seen_twice() {
    let mut scene = Scene::new();
    scene.write(5);
    scene.look();
    scene.write(1);
    scene.truncate();
    scene.write(7);
    scene.look();
    assert_eq!(scene.found.gaps, 1);
    scene.written.remove(5);
    assert_eq!(scene.seen, scene.written);
}

#[test]
fn whatever_happens_while_nobody_looks_a_restart_goes_on_where_it_stopped() {
    type Happens = fn(&mut Scene);
    let happenings: [(&str, Happens); 9] = [
        ("nothing", |_| {}),
        ("it grows", |scene| scene.write(4)),
        ("it is renamed", |scene| {
            scene.write(4);
            scene.rename("publisher.log", "publisher.log.1");
        }),
        ("it is renamed to any name", |scene| {
            scene.write(4);
            scene.rename("publisher.log", "yesterday");
        }),
        ("it is renamed and another one begins", |scene| {
            scene.write(4);
            scene.rename("publisher.log", "publisher.log.1");
            scene.write(4);
        }),
        ("it is renamed three times", |scene| {
            for name in ["publisher.log.3", "publisher.log.2", "publisher.log.1"] {
                scene.write(4);
                scene.rename("publisher.log", name);
            }
            scene.write(4);
        }),
        ("it is copied away", |scene| {
            scene.write(4);
            scene.copy_and_truncate("publisher.log.1");
        }),
        ("it is copied away and grows beyond", |scene| {
            scene.write(4);
            scene.copy_and_truncate("publisher.log.1");
            scene.write(60);
        }),
        ("it is moved to another disk and back", |scene| {
            scene.write(4);
            fs::copy(scene.path(), scene.named("copy")).unwrap();
            fs::remove_file(scene.path()).unwrap();
            scene.rename("copy", "publisher.log");
        }),
    ];
    for (case, happens) in happenings {
        let mut scene = Scene::new();
        scene.write(20);
        scene.look();
        happens(&mut scene);
        scene.restart();
        scene.look();
        scene.restart();
        scene.write(3);
        scene.look();
        let mut seen = scene.seen.clone();
        seen.sort_by_key(|line| line.split(' ').nth(1).unwrap().parse::<usize>().unwrap());
        assert_eq!(seen, scene.written, "{case}");
        assert_eq!(scene.found.gaps, 0, "{case}");
    }
}

#[test]
fn a_renamed_log_is_not_mistaken_for_its_successor_although_both_read_alike() {
    let mut scene = Scene::without_a_log(Start::Beginning);
    let same = "the publisher says the same again and again, and never when\n";
    let mut seen = 0;
    let mut look = |follower: &mut Follower| {
        while follower.round(&mut |_| seen += 1).unwrap().more {}
    };
    fs::write(scene.path(), same.repeat(5)).unwrap();
    look(&mut scene.follower);
    fs::write(scene.named("rest"), same.repeat(7)).unwrap();
    let mut log = OpenOptions::new().append(true).open(scene.path()).unwrap();
    log.write_all(same.repeat(2).as_bytes()).unwrap();
    scene.rename("publisher.log", "publisher.log.1");
    scene.rename("rest", "publisher.log");
    scene.restart();
    look(&mut scene.follower);
    assert_eq!(seen, 5 + 2 + 7);
}

#[test]
fn a_log_that_went_while_nobody_looked_is_a_gap_and_its_successor_is_read_whole() {
    let mut scene = Scene::new();
    scene.write(20);
    scene.look();
    scene.write(1);
    fs::remove_file(scene.path()).unwrap();
    scene.written.pop();
    // So that the number of the file that went is not its successor's.
    fs::write(scene.named("other"), "").unwrap();
    scene.write(30);
    scene.restart();
    scene.look();
    assert_eq!((scene.found.gaps, scene.seen.len()), (1, 50));
    assert_eq!(scene.seen, scene.written);
}

#[test]
fn a_successor_with_the_number_of_the_file_that_went_is_not_taken_for_it() {
    let mut scene = Scene::new();
    scene.write(20);
    scene.look();
    // The same number for sure: it is the same file, written anew from its beginning and longer than before.
    scene.truncate();
    scene.write(40);
    scene.restart();
    scene.look();
    assert_eq!(scene.seen, scene.written);
    assert_eq!(scene.found.gaps, 1);
}

#[test]
fn a_folder_in_the_way_is_told_and_the_log_is_read_when_it_is_there_again() {
    let mut scene = Scene::new();
    scene.write(5);
    scene.look();
    scene.write(5);
    scene.rename("publisher.log", "publisher.log.1");
    fs::create_dir(scene.path()).unwrap();
    assert!(scene.follower.round(&mut |_| {}).is_err());
    assert!(scene.follower.round(&mut |_| {}).is_err());
    fs::remove_dir(scene.path()).unwrap();
    scene.write(5);
    scene.assert_each_line_was_seen_once();
}

#[test]
fn a_link_to_the_newest_file_is_followed() {
    let mut scene = Scene::without_a_log(Start::Beginning);
    for day in ["publisher-2026-11-22", "publisher-2026-11-23", "publisher-2026-11-24"] {
        scene.write_into(day, 5);
        let _ = fs::remove_file(scene.path());
        std::os::unix::fs::symlink(scene.named(day), scene.path()).unwrap();
        scene.look();
        scene.write_into(day, 5);
    }
    scene.assert_each_line_was_seen_once();
}

#[test]
fn many_files_are_never_open_at_a_time() {
    let mut scene = Scene::new();
    for number in 0..FILES_MAX * 3 {
        scene.write(1);
        scene.look();
        scene.rename("publisher.log", &format!("publisher.log.{number}"));
        assert!(scene.follower.files.len() <= FILES_MAX);
    }
    // What is written into a file that was closed is not read, and least of all what stands before it.
    scene.write(1);
    scene.look();
    scene.write_into("publisher.log.0", 1);
    scene.written.pop();
    scene.rename("publisher.log", "publisher.log.99");
    scene.write(1);
    scene.assert_each_line_was_seen_once();
}
