//! Row-wise SQL over record batches.
