//! Counters and histograms of things that happen, in one list.
