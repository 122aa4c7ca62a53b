//! The `process_*` metrics that every dashboard expects, from `/proc`. Where there is no `/proc` there
//! are none.

use super::{
    negotiation::Format,
    text::{Family, Kind},
};
use std::fs;

/// What the kernel says about this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// User and system time in seconds.
    pub cpu_seconds: f64,
    /// Open file descriptors.
    pub open_fds: i64,
    /// The soft limit on them; `None` when there is none.
    pub max_fds: Option<i64>,
    /// Bytes in memory.
    pub resident_bytes: i64,
    /// Bytes of address space.
    pub virtual_bytes: i64,
    /// Unix time.
    pub started_at: f64,
}

impl Usage {
    /// Asks the kernel now.
    #[must_use]
    pub fn read() -> Option<Self> {
        Self::parse(
            &fs::read_to_string("/proc/self/stat").ok()?,
            &fs::read_to_string("/proc/self/status").ok()?,
            &fs::read_to_string("/proc/self/limits").ok()?,
            &fs::read_to_string("/proc/stat").ok()?,
            i64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()?,
        )
    }

    fn parse(stat: &str, status: &str, limits: &str, system: &str, open_fds: i64) -> Option<Self> {
        // The second field is the program's name in parentheses and may hold anything, so counting
        // starts after the last of them (proc_pid_stat(5)): the next field is the third.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let booted_at: f64 = word_after(system, "btime")?.parse().ok()?;
        let resident_kib: i64 = word_after(status, "VmRSS:")?.parse().ok()?;
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / TICKS_PER_SECOND,
            open_fds,
            max_fds: word_after(limits, "Max open files").and_then(|limit| limit.parse().ok()),
            resident_bytes: resident_kib * 1024,
            virtual_bytes: field(23)? as i64,
            started_at: booted_at + field(22)? / TICKS_PER_SECOND,
        })
    }

    /// Writes it.
    pub fn write(&self, out: &mut Vec<u8>, format: Format) {
        CPU_SECONDS.write_single_float(out, format, self.cpu_seconds);
        if let Some(max) = self.max_fds {
            MAX_FDS.write_single(out, format, max);
        }
        OPEN_FDS.write_single(out, format, self.open_fds);
        RESIDENT_BYTES.write_single(out, format, self.resident_bytes);
        START_TIME.write_single_float(out, format, self.started_at);
        VIRTUAL_BYTES.write_single(out, format, self.virtual_bytes);
    }
}

/// The first word after `key` on the line that begins with it.
fn word_after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()
}

const fn process(name: &'static str, kind: Kind, help: &'static str) -> Family {
    Family { prefix: "process_", name, kind, help }
}

const CPU_SECONDS: Family =
    process("cpu_seconds", Kind::Counter, "Total user and system CPU time spent in seconds.");
const OPEN_FDS: Family = process("open_fds", Kind::Gauge, "Number of open file descriptors.");
const MAX_FDS: Family = process("max_fds", Kind::Gauge, "Maximum number of open file descriptors.");
const RESIDENT_BYTES: Family =
    process("resident_memory_bytes", Kind::Gauge, "Resident memory size in bytes.");
const VIRTUAL_BYTES: Family =
    process("virtual_memory_bytes", Kind::Gauge, "Virtual memory size in bytes.");
const START_TIME: Family = process(
    "start_time_seconds",
    Kind::Gauge,
    "Start time of the process since unix epoch in seconds.",
);

/// `USER_HZ`: fixed at 100 in what Linux tells programs, whatever the kernel itself counts in.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_parentheses_and_blanks_does_not_shift_the_fields() {
        let stat =
            "7 (a) (b c) S 1 7 7 0 -1 4194304 1 2 3 4 250 50 0 0 20 0 3 0 1500 8192000 500 9";
        let usage = Usage::parse(
            stat,
            "Name:\tx\nVmRSS:\t    2048 kB\n",
            "Limit  Soft Limit\nMax open files            1024                 4096   files\n",
            "cpu 1 2 3\nbtime 1800000000\n",
            9,
        );
        assert_eq!(
            usage,
            Some(Usage {
                cpu_seconds: 3.0,
                open_fds: 9,
                max_fds: Some(1024),
                resident_bytes: 2_097_152,
                virtual_bytes: 8_192_000,
                started_at: 1_800_000_015.0,
            })
        );
    }

    #[test]
    fn this_process_has_memory_and_files() {
        let usage = Usage::read().expect("tests run where /proc is mounted");
        assert!(usage.resident_bytes > 0 && usage.open_fds > 0 && usage.started_at > 1.6e9);
    }
}
