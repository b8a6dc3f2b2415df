//! Pseudo-random numbers that a seed decides. Any shard; nothing here is secret.

/// The next number of the sequence that `state` is in (SplitMix64): the same on every machine.
pub fn split_mix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::split_mix64;

    #[test]
    fn the_sequence_is_the_published_one() {
        let mut state = 1_234_567;
        let numbers = [(); 3].map(|()| split_mix64(&mut state));
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(numbers, expected);
    }
}
