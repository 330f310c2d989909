//! Who looks on while bytes move.

/// Hears of a transfer, and may end it. Called from several threads.
pub trait Watch: Sync {
    /// So many more bytes are to move.
    fn planned(&self, _bytes: u64) {}

    /// So many more bytes have moved.
    fn moved(&self, _bytes: u64) {}

    /// Whether the user wants it to end.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Nobody looks on.
impl Watch for () {}
