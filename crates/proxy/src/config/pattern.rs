//! ARNs with `*` in them.

/// An ARN in which `*` stands for any characters but `:` and `/`, so that it never reaches into another part of the ARN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Checks a pattern.
    ///
    /// # Errors
    /// What is wrong: it is no ARN of six parts, or it leaves the account open.
    pub fn new(text: &str) -> Result<Self, String> {
        let parts: Vec<_> = text.splitn(6, ':').collect();
        match parts.as_slice() {
            ["arn", _, _, _, account, resource] if !resource.is_empty() => {
                if account.contains('*') {
                    return Err("must name its account: * is not allowed there".to_owned());
                }
                Ok(Self(text.to_owned()))
            }
            _ => Err("must be an ARN, in which * stands for any characters but : and /".to_owned()),
        }
    }

    /// Whether an ARN fits.
    #[must_use]
    pub fn matches(&self, arn: &str) -> bool {
        matches(self.0.as_bytes(), arn.as_bytes())
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Linear but for the backtracking to the last star, which never leaves its part of the ARN.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on if what follows the last star does not fit: behind the star, and one more character into the text.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() || p < pattern.len() {
        match (pattern.get(p), text.get(t)) {
            (Some(b'*'), _) => {
                p += 1;
                star = Some((p, t));
            }
            (Some(wanted), Some(found)) if wanted == found => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((behind, taken)) if text.get(taken).is_some_and(|byte| !b":/".contains(byte)) => {
                    p = behind;
                    t = taken + 1;
                    star = Some((behind, t));
                }
                _ => return false,
            },
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_in_a_pattern_stays_within_its_part_of_the_arn() {
        let table = [
            ("arn:aws:iam::1:role/web", "arn:aws:iam::1:role/web", true),
            ("arn:aws:iam::1:role/web", "arn:aws:iam::1:role/web2", false),
            ("arn:aws:iam::1:role/web", "arn:aws:iam::1:role/we", false),
            ("arn:aws:iam::1:role/ci-*", "arn:aws:iam::1:role/ci-build", true),
            ("arn:aws:iam::1:role/ci-*", "arn:aws:iam::1:role/ci-", true),
            ("arn:aws:iam::1:role/ci-*", "arn:aws:iam::1:role/ci-x/admin", false),
            ("arn:aws:iam::1:role/*-ci-*", "arn:aws:iam::1:role/a-ci-b-ci-c", true),
            ("arn:aws:iam::1:role/*/*", "arn:aws:iam::1:role/a/b", true),
            ("arn:aws:iam::1:role/*/*", "arn:aws:iam::1:role/a/b/c", false),
            ("arn:aws:iam::1:role/*", "arn:aws:iam::1:role/a:b", false),
            ("arn:aws:iam::1:*", "arn:aws:iam::1:role/a", false),
            ("arn:*:iam::1:role/a", "arn:aws:iam:x:1:role/a", false),
            ("arn:aws:iam::1:role/a*b*c", "arn:aws:iam::1:role/aXbYbZc", true),
            ("arn:aws:iam::1:role/a*b*c", "arn:aws:iam::1:role/aXbYbZ", false),
            ("arn:aws:iam::1:role/**x", "arn:aws:iam::1:role/yx", true),
        ];
        for (pattern, arn, fits) in table {
            assert_eq!(Pattern::new(pattern).unwrap().matches(arn), fits, "{pattern} {arn}");
        }
        for bad in ["", "*", "arn:aws:iam::*:role/web", "arn:aws:iam::1:", "role/web"] {
            assert!(Pattern::new(bad).is_err(), "{bad}");
        }
    }
}
