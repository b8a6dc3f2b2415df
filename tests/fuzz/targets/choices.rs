//! Decisions out of an input's bytes: the same bytes always make the same ones. Behind the end
//! there are zeros, which stand for the plainest choice everywhere.

/// What is left of an input.
pub struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    pub fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else {
            return 0;
        };
        self.rest = rest;
        *first
    }

    /// The next `count` bytes, or fewer at the end.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// A slice that says its own length, in one byte.
    pub fn short_slice(&mut self) -> &'a [u8] {
        let count = self.byte();
        self.take(count.into())
    }

    /// A slice that says its own length, in two bytes.
    pub fn slice(&mut self) -> &'a [u8] {
        let count = usize::from(self.byte()) | usize::from(self.byte()) << 8;
        self.take(count)
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// True once in `count` times; never at the end.
    pub fn one_in(&mut self, count: u8) -> bool {
        self.byte() % count == count - 1
    }

    /// A number below `end`, at most 256.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    pub fn pick<T: Clone>(&mut self, among: &[T]) -> T {
        among[self.below(among.len())].clone()
    }

    /// A number, more often than not one at which something changes.
    pub fn number(&mut self) -> i64 {
        match self.byte() % 16 {
            0..=4 => 0,
            5 => 1,
            6 => -1,
            7 => i64::from(self.byte()),
            8 => -i64::from(self.byte()),
            9 => i64::from(i32::MAX),
            10 => i64::from(i32::MIN),
            11 => i64::MAX,
            12 => i64::MIN,
            13 => i64::from(i16::MAX),
            14 => self
                .fixed::<4>()
                .iter()
                .fold(0, |all, byte| all << 8 | i64::from(*byte)),
            _ => i64::from_be_bytes(self.fixed()),
        }
    }

    /// As [`Choices::number`], cut to 32 bits.
    pub fn number32(&mut self) -> i32 {
        self.number() as i32
    }

    fn fixed<const N: usize>(&mut self) -> [u8; N] {
        let mut fixed = [0; N];
        let taken = self.take(N);
        fixed[..taken.len()].copy_from_slice(taken);
        fixed
    }
}
