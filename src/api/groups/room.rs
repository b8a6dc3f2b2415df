//! What the answer to one request about many groups may take. A request may name a group as often
//! as it likes, and is a small fraction of what it asks for. Pure.

use crate::base::limits::GROUPS_ANSWER_BYTES_MAX;
use crate::coordinator::group::error::GroupError;

/// The room that is left in an answer.
#[derive(Debug)]
pub struct AnswerRoom {
    /// None once something did not fit.
    bytes: Option<usize>,
}

impl AnswerRoom {
    /// All of it.
    pub fn new() -> Self {
        Self {
            bytes: Some(GROUPS_ANSWER_BYTES_MAX),
        }
    }

    /// Takes `bytes` of it.
    ///
    /// # Errors
    /// `NotAvailable` where they do not fit, and from then on always: a client that asks for less
    /// at a time gets an answer.
    pub fn take(&mut self, bytes: usize) -> Result<(), GroupError> {
        let left = self.bytes.and_then(|left| left.checked_sub(bytes));
        self.bytes = left;
        left.map(drop).ok_or(GroupError::NotAvailable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: Result<(), GroupError> = Err(GroupError::NotAvailable);

    #[test]
    fn what_does_not_fit_ends_the_answer() {
        let mut room = AnswerRoom::new();
        assert_eq!(room.take(GROUPS_ANSWER_BYTES_MAX - 10), Ok(()));
        assert_eq!(room.take(5), Ok(()));
        assert_eq!(room.take(6), REFUSED);
        for bytes in [0, 1, 5] {
            assert_eq!(room.take(bytes), REFUSED);
        }
    }

    #[test]
    fn a_group_that_does_not_fit_alone_is_refused() {
        let mut room = AnswerRoom::new();
        assert_eq!(room.take(GROUPS_ANSWER_BYTES_MAX + 1), REFUSED);
        assert_eq!(AnswerRoom::new().take(GROUPS_ANSWER_BYTES_MAX), Ok(()));
    }
}
