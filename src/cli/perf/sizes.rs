//! How large records are, as people write it: `1024`, `100..2000` for any size in between, or
//! `100*9,1024` for nine of the one and one of the other. Pure.

use std::str::FromStr;

/// The sizes of records, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    parts: Vec<Part>,
    weight: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    from: usize,
    to: usize,
    weight: u64,
}

impl Sizes {
    /// A size: the same for the same number, which is any.
    pub fn pick(&self, number: u64) -> usize {
        let mut at = number % self.weight;
        for part in &self.parts {
            if at < part.weight {
                let span = (part.to - part.from) as u64 + 1;
                return part.from + (number / self.weight % span) as usize;
            }
            at -= part.weight;
        }
        self.parts[0].from
    }

    /// The smallest size.
    pub fn min(&self) -> usize {
        let smallest = self.parts.iter().map(|part| part.from).min();
        smallest.unwrap_or(0)
    }

    /// The largest size.
    pub fn max(&self) -> usize {
        self.parts.iter().map(|part| part.to).max().unwrap_or(0)
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "'{text}' are no sizes: write 1024, 100..2000 for any size in between, or \
                 100*9,1024 for nine of the one and one of the other"
            )
        };
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_| wrong());
        let mut parts = Vec::new();
        for part in text.split(',') {
            let (sizes, weight) = part.split_once('*').unwrap_or((part, "1"));
            let (from, to) = sizes.split_once("..").unwrap_or((sizes, sizes));
            let (from, to, weight) = (number(from)?, number(to)?, number(weight)? as u64);
            if from > to || weight == 0 {
                return Err(wrong());
            }
            parts.push(Part { from, to, weight });
        }
        let weight = parts.iter().map(|part| part.weight).sum();
        Ok(Self { parts, weight })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_picked_as_they_say() {
        let counts = |text: &str, sizes: &[usize]| {
            let read: Sizes = text.parse().expect("sizes");
            let picked: Vec<_> = (0..1000).map(|number| read.pick(number)).collect();
            let count = |size: &usize| picked.iter().filter(|it| *it == size).count();
            sizes.iter().map(count).collect::<Vec<_>>()
        };
        assert_eq!(counts("100", &[100]), [1000]);
        assert_eq!(counts("1..4", &[1, 2, 3, 4, 5]), [250, 250, 250, 250, 0]);
        assert_eq!(counts("100*9,1024", &[100, 1024]), [900, 100]);
        let mixed: Sizes = "10..20*3, 7".parse().expect("sizes");
        assert_eq!((mixed.min(), mixed.max()), (7, 20));
        for wrong in ["", "a", "5..1", "1*0", "1,,2", "-1"] {
            assert!(wrong.parse::<Sizes>().is_err(), "{wrong}");
        }
    }
}
