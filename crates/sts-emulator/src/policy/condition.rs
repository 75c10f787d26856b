//! One condition of a statement: an operator, a key, the policy's values, and what the request has.
//!
//! Conditions are joined by AND, values by OR; under a negated operator values are joined by AND, and an absent key fits. Keys are
//! compared without case, values with it. Source: IAM User Guide, "Conditions with multiple context keys or values", "Single-valued vs.
//! multivalued context keys".

use std::fmt;
use std::net::IpAddr;

use super::Truth;
use super::arn;
use super::case;
use super::context::{Context, Value};
use super::ecs_source::{EcsSource, is_for_all_clusters};
use super::glob::{self, Piece};
use super::operator::{Base, Operator, Set};
use super::scalar::{network, number, time};
use super::variables;

/// A condition as a policy has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    /// As written.
    pub(super) name: String,
    pub(super) operator: Operator,
    /// As written.
    pub(super) key: String,
    pub(super) values: Vec<String>,
}

/// A condition and what came of it for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The operator as the policy writes it.
    pub operator: String,
    /// The key as the policy writes it.
    pub key: String,
    /// The values of the policy.
    pub policy_values: Vec<String>,
    /// The values of the request; none where it does not have the key, or where they are not known.
    pub request_values: Option<Vec<String>>,
    /// Whether the condition holds.
    pub holds: Truth,
    /// What else there is to say.
    pub why: Option<String>,
    is_known: bool,
}

const NO_CLUSTER: &str = "ECS supports aws:SourceArn only for all clusters, as arn:aws:ecs:REGION:ACCOUNT:* or …:task/*: with a narrower one, \
                          tasks fail with `unable to assume the role`";

const STAR_AS_TEXT: &str =
    "this operator takes * and ? as they stand, which no ARN has: ArnLike, or StringLike, is meant";

const NO_SET_OPERATOR: &str =
    "a key of several values needs ForAnyValue: or ForAllValues: before the operator: AWS does not say what is without";

const CASE: &str = "AWS does not say which of these letters differ in case alone";

const SHORT_ARN: &str = "a pattern of fewer than the six parts of an ARN: nobody says what it fits";

impl Condition {
    /// Whether it holds; `has_variables` is whether the policy's version has variables at all.
    pub(super) fn check(&self, context: &Context, has_variables: bool) -> Checked {
        let value = context.get(&self.key);
        let (holds, why) = self.truth(value, context, has_variables && self.operator.has_variables());
        let request_values = match value {
            Some(Value::One(value)) => Some(vec![value.clone()]),
            Some(Value::Many(values)) => Some(values.clone()),
            Some(Value::EcsSource(source)) => Some(vec![source.task.clone()]),
            Some(Value::Unknown(_)) | None => None,
        };
        let why = why.or_else(|| match value {
            None => context.why_absent(&self.key).map(str::to_owned),
            Some(_) => None,
        });
        Checked {
            operator: self.name.clone(),
            key: self.key.clone(),
            policy_values: self.values.clone(),
            request_values,
            holds,
            why,
            is_known: !matches!(value, Some(Value::Unknown(_))),
        }
    }

    fn truth(&self, value: Option<&Value>, context: &Context, has_variables: bool) -> (Truth, Option<String>) {
        let operator = self.operator;
        if operator.base == Base::Null {
            let wants_absent = |wanted: &String| Truth::of(wanted.eq_ignore_ascii_case("true") == value.is_none());
            return match value {
                Some(Value::Unknown(why)) => (Truth::Unknown, Some((*why).to_owned())),
                _ => (Truth::any(self.values.iter().map(wants_absent)), None),
            };
        }
        match (value, operator.set) {
            (None, set) => {
                let fits = operator.if_exists || set.map_or(operator.negated, |set| set == Set::ForAllValues);
                (Truth::of(fits), None)
            }
            (Some(Value::Unknown(why)), _) => (Truth::Unknown, Some((*why).to_owned())),
            (Some(Value::EcsSource(source)), _) => {
                let comparisons =
                    self.values.iter().map(|wanted| self.fits_ecs(wanted, source, context, has_variables));
                self.joined(comparisons)
            }
            (Some(Value::One(actual)), _) => self.compared(actual, context, has_variables),
            (Some(Value::Many(actual)), Some(set)) => {
                let of_each: Vec<_> = actual.iter().map(|one| self.compared(one, context, has_variables)).collect();
                let truths = of_each.iter().map(|(truth, _)| *truth);
                let truth = if set == Set::ForAllValues { Truth::all(truths) } else { Truth::any(truths) };
                (truth, of_each.into_iter().find_map(|(_, why)| why))
            }
            (Some(Value::Many(_)), None) => (Truth::Unknown, Some(NO_SET_OPERATOR.to_owned())),
        }
    }

    /// One value of the request against all of the policy.
    fn compared(&self, actual: &str, context: &Context, has_variables: bool) -> (Truth, Option<String>) {
        self.joined(self.values.iter().map(|wanted| self.fits(wanted, actual, context, has_variables)))
    }

    fn joined(&self, comparisons: impl Iterator<Item = (Truth, Option<String>)>) -> (Truth, Option<String>) {
        let (truths, reasons): (Vec<_>, Vec<_>) = comparisons.unzip();
        let any = Truth::any(truths);
        let truth = if self.operator.negated { any.not() } else { any };
        // A reason belongs to what is not known; where something else decided, it would mislead.
        let why = reasons.into_iter().flatten().next().filter(|_| truth == Truth::Unknown);
        (truth, why)
    }

    /// As if the operator was not negated.
    fn fits(&self, wanted: &str, actual: &str, context: &Context, has_variables: bool) -> (Truth, Option<String>) {
        let holds = match self.operator.base {
            Base::Numeric(compare) => {
                number(actual).zip(number(wanted)).map(|(actual, wanted)| compare.holds(actual, wanted))
            }
            Base::Date(compare) => time(actual).zip(time(wanted)).map(|(actual, wanted)| compare.holds(actual, wanted)),
            Base::Bool => Some(actual.eq_ignore_ascii_case(wanted)),
            Base::Binary | Base::Null => Some(actual == wanted),
            Base::IpAddress => {
                let address = actual.parse::<IpAddr>().ok();
                network(wanted).zip(address).map(|(network, address)| network.contains(&address))
            }
            Base::StringEquals | Base::StringEqualsIgnoreCase | Base::StringLike | Base::Arn => {
                let pattern = match self.pattern(wanted, context, has_variables) {
                    Ok(pattern) => pattern,
                    Err(why) => return (Truth::Unknown, Some(why)),
                };
                match self.fits_pattern(&pattern, actual) {
                    Ok(holds) => Some(holds),
                    Err(why) => return (Truth::Unknown, Some(why.to_owned())),
                }
            }
        };
        match holds {
            Some(holds) => (Truth::of(holds), None),
            None => (Truth::Unknown, Some(format!("`{actual}` cannot be compared by {}", self.name))),
        }
    }

    fn pattern(&self, wanted: &str, context: &Context, has_variables: bool) -> Result<Vec<Piece>, String> {
        let wildcards = matches!(self.operator.base, Base::StringLike | Base::Arn);
        variables::expand(wanted, wildcards, has_variables, context)
            .map_err(|unresolved| format!("the variable ${{{}}} has no value here", unresolved.0))
    }

    fn fits_pattern(&self, pattern: &[Piece], actual: &str) -> Result<bool, &'static str> {
        match self.operator.base {
            Base::Arn => arn::matches(pattern, actual).ok_or(SHORT_ARN),
            Base::StringEqualsIgnoreCase => case::same(&glob::plain(pattern), actual).ok_or(CASE),
            _ => Ok(glob::matches(pattern, actual)),
        }
    }

    /// Yes only for a pattern of all clusters. No for one of another account or region. What is between is what ECS does not support.
    fn fits_ecs(
        &self,
        wanted: &str,
        source: &EcsSource,
        context: &Context,
        has_variables: bool,
    ) -> (Truth, Option<String>) {
        if !self.operator.has_variables() {
            return self.fits(wanted, &source.task, context, has_variables);
        }
        let pattern = match self.pattern(wanted, context, has_variables) {
            Ok(pattern) => pattern,
            Err(why) => return (Truth::Unknown, Some(why)),
        };
        let fits = match self.fits_pattern(&pattern, &source.any) {
            Ok(fits) => fits,
            Err(why) => return (Truth::Unknown, Some(why.to_owned())),
        };
        if fits && is_for_all_clusters(&pattern) {
            return (Truth::Yes, None);
        }
        let pattern =
            if self.operator.base == Base::StringEqualsIgnoreCase { case::lower_pieces(&pattern) } else { pattern };
        if fits || arn::matches_but_for_the_resource(&pattern, &source.task) {
            let as_text = matches!(self.operator.base, Base::StringEquals | Base::StringEqualsIgnoreCase);
            let has_star = pattern.iter().any(|piece| matches!(piece, Piece::Char('*' | '?')));
            return (Truth::Unknown, Some(if as_text && has_star { STAR_AS_TEXT } else { NO_CLUSTER }.to_owned()));
        }
        (Truth::No, None)
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operator, key, policy_values, request_values, why, is_known, .. } = self;
        write!(f, "{operator} {key}: ")?;
        match request_values {
            Some(values) => write!(f, "the request has {}", quoted(values))?,
            None if *is_known => write!(f, "the request does not have it")?,
            None => write!(f, "the request may have it")?,
        }
        write!(f, ", the policy has {}", quoted(policy_values))?;
        if let Some(why) = why {
            write!(f, " ({why})")?;
        }
        Ok(())
    }
}

fn quoted(values: &[String]) -> String {
    let quoted: Vec<_> = values.iter().map(|value| format!("\"{value}\"")).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests;
