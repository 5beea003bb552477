//! Steps 3 to 5: sequencer, consumer groups and their runner.
