//! What CloudFormation would refuse of a template's parameters, seen before a stack is asked for.

use std::collections::BTreeMap;
use std::fmt;

use regex_lite::Regex;
use saphyr::{LoadableYamlNode as _, Yaml};

use super::stack::{ISOLATION, SUFFIX};
use super::template;

/// The bytes of a template that a call takes (CloudFormation User Guide, "CloudFormation quotas").
const MAX_BYTES: usize = 51_200;
/// Of kutover's own template: lists that have an entry for each broker.
const PER_BROKER: [&str; 3] = ["BrokerAddresses", "BrokerSubnets", "BrokerZones"];
const BROKER_IDS: &str = "BrokerIds";

/// Something that CloudFormation would refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateFault {
    /// The parameter; `None` where it is the template itself.
    pub parameter: Option<String>,
    /// What is wrong with it, and what to do about it.
    pub reason: String,
}

impl fmt::Display for TemplateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.parameter {
            Some(name) => write!(f, "the parameter `{name}` {}", self.reason),
            None => write!(f, "the template: {}", self.reason),
        }
    }
}

/// What is wrong with a template and the parameters for it. Where none is given, the stack is taken for one that is there
/// already, and none is missed.
pub fn template_faults(template: &str, given: &BTreeMap<String, String>) -> Vec<TemplateFault> {
    let whole = |reason| vec![TemplateFault { parameter: None, reason }];
    if template.len() > MAX_BYTES {
        return whole(format!("it has {} bytes, and CloudFormation takes {MAX_BYTES}", template.len()));
    }
    let documents = match Yaml::load_from_str(template) {
        Ok(documents) => documents,
        Err(error) => return whole(format!("it is neither YAML nor JSON: {error}")),
    };
    let Some(parameters) = documents.first().and_then(|document| document.as_mapping_get("Parameters"))
    else {
        return whole("it has no section `Parameters`; kutover sets `Suffix`".to_owned());
    };
    let declared: BTreeMap<String, &Yaml<'_>> = parameters
        .as_mapping()
        .into_iter()
        .flatten()
        .filter_map(|(name, declared)| Some((text(name)?, declared)))
        .collect();
    let mut faults: Vec<_> = given.iter().filter_map(|(name, value)| fault(&declared, name, value)).collect();
    if !given.is_empty() {
        faults.extend(missing(&declared, given));
    }
    if template == self::template() {
        faults.extend(brokers(given));
    }
    faults.into_iter().map(|(name, reason)| TemplateFault { parameter: Some(name), reason }).collect()
}

type Named = (String, String);

/// A scalar as CloudFormation reads it.
fn text(node: &Yaml<'_>) -> Option<String> {
    node.as_str().map(str::to_owned).or_else(|| node.as_integer().map(|number| number.to_string()))
}

fn missing(declared: &BTreeMap<String, &Yaml<'_>>, given: &BTreeMap<String, String>) -> Vec<Named> {
    let is_missing = |(name, declared): &(&String, &&Yaml<'_>)| {
        let is_set = [SUFFIX, ISOLATION].contains(&name.as_str()) || given.contains_key(*name);
        !is_set && declared.as_mapping_get("Default").is_none()
    };
    let said = |(name, declared): (&String, &&Yaml<'_>)| {
        let about = declared.as_mapping_get("Description").and_then(text);
        let about = about.map_or_else(String::new, |about| format!(" ({about})"));
        (name.clone(), format!("is missing, and has no default{about}"))
    };
    declared.iter().filter(is_missing).map(said).collect()
}

/// What is wrong with one value.
fn fault(declared: &BTreeMap<String, &Yaml<'_>>, name: &str, value: &str) -> Option<Named> {
    let wrong = |reason: String| Some((name.to_owned(), reason));
    if [SUFFIX, ISOLATION].contains(&name) {
        return wrong("is set by kutover; delete it".to_owned());
    }
    let Some(declared) = declared.get(name) else {
        let names: Vec<_> = declared.keys().map(String::as_str).collect();
        return wrong(format!("is none of the template's: {}", names.join(", ")));
    };
    let says = |key: &str| declared.as_mapping_get(key).and_then(text);
    let allowed = declared.as_mapping_get("AllowedValues").and_then(|allowed| allowed.as_vec());
    if let Some(allowed) = allowed {
        let allowed: Vec<_> = allowed.iter().filter_map(text).collect();
        if !allowed.iter().any(|one| one == value) {
            return wrong(format!("`{value}` is none of {}", allowed.join(", ")));
        }
    }
    if let Some(pattern) = says("AllowedPattern") {
        // One that only Java can read is left to CloudFormation.
        let is_other = Regex::new(&format!("^(?:{pattern})$")).is_ok_and(|pattern| !pattern.is_match(value));
        if is_other {
            return wrong(format!("`{value}` is not of the form `{pattern}`"));
        }
    }
    let length = value.chars().count();
    let number = |key: &str| says(key).and_then(|number| number.parse::<f64>().ok());
    let of = |key: &str, is_beyond: &dyn Fn(f64) -> bool| number(key).filter(|&limit| is_beyond(limit));
    let counted = f64::from(u32::try_from(length).unwrap_or(u32::MAX));
    if let Some(limit) =
        of("MinLength", &|limit| counted < limit).or(of("MaxLength", &|limit| counted > limit))
    {
        return wrong(format!("has {length} characters; the template's limit is {limit}"));
    }
    if says("Type").as_deref() == Some("Number") {
        let Ok(is) = value.parse::<f64>() else { return wrong(format!("`{value}` is no number")) };
        if let Some(limit) = of("MinValue", &|limit| is < limit).or(of("MaxValue", &|limit| is > limit)) {
            return wrong(format!("is {value}; the template's limit is {limit}"));
        }
    }
    None
}

/// kutover's own template: the brokers' ids count from 0, and each has an address, a subnet and a zone.
fn brokers(given: &BTreeMap<String, String>) -> Vec<Named> {
    let list = |name: &str| {
        let given = given.get(name)?;
        Some(given.split(',').map(|one| one.trim().to_owned()).collect::<Vec<_>>())
    };
    let ids = list(BROKER_IDS).unwrap_or_else(|| vec!["0".to_owned(), "1".to_owned(), "2".to_owned()]);
    let mut faults = Vec::new();
    if !ids.iter().enumerate().all(|(at, id)| *id == at.to_string()) {
        let whole: Vec<_> = (0..ids.len()).map(|id| id.to_string()).collect();
        faults.push((BROKER_IDS.to_owned(), format!("counts from 0 on, as `{}`", whole.join(","))));
    }
    for name in PER_BROKER {
        if let Some(found) = list(name).filter(|found| found.len() != ids.len()) {
            let reason = format!(
                "has {} entries for {} brokers (`{BROKER_IDS}` is `{}`): give one for each, in the order of their ids",
                found.len(),
                ids.len(),
                ids.join(",")
            );
            faults.push((name.to_owned(), reason));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> BTreeMap<String, String> {
        let sha = "0".repeat(128);
        [
            ("ArchiveBucket", "archives"),
            ("ArchiveKey", "kafka_2.13-4.3.1.tgz"),
            ("ArchiveSha512", &sha),
            ("KafkaVersion", "4.3.1"),
            ("BrokerAddresses", "172.31.0.10, 172.31.16.10, 172.31.32.10"),
            ("BrokerSubnets", "subnet-1,subnet-2,subnet-3"),
            ("BrokerZones", "us-east-1a,us-east-1b,us-east-1c"),
            ("BalancerSubnets", "subnet-1,subnet-2,subnet-3"),
            ("VpcId", "vpc-1"),
            ("ClientCidr", "172.31.0.0/16"),
            ("ControllerCidr", "172.31.255.0/24"),
            ("ImageId", "ami-1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    fn of(template: &str, given: &BTreeMap<String, String>) -> Vec<(String, String)> {
        let faults = template_faults(template, given).into_iter();
        faults.map(|fault| (fault.parameter.unwrap_or_default(), fault.reason)).collect()
    }

    #[test]
    fn a_whole_set_has_no_fault_and_none_is_none_to_miss() {
        assert_eq!(of(&template(), &whole()), []);
        assert_eq!(of(&template(), &BTreeMap::new()), []);
    }

    #[test]
    fn each_fault_names_its_parameter_and_what_would_be_right() {
        for (name, value, says) in [
            ("VpcID", "vpc-1", "is none of the template's: ArchiveBucket"),
            ("Suffix", "A", "set by kutover"),
            ("Isolation", "x", "set by kutover"),
            ("KafkaVersion", "4.3", "`4.3` is not of the form `[0-9]+\\.[0-9]+\\.[0-9]+`"),
            ("VolumeGiB", "big", "`big` is no number"),
            ("VolumeGiB", "5", "is 5; the template's limit is 10"),
            ("BrokerIds", "1,2,3", "as `0,1,2`"),
            (
                "BrokerAddresses",
                "172.31.0.10,172.31.16.10",
                "has 2 entries for 3 brokers (`BrokerIds` is `0,1,2`)",
            ),
            ("BrokerZones", "us-east-1a", "has 1 entries"),
        ] {
            let mut given = whole();
            given.insert(name.to_owned(), value.to_owned());
            let [(named, said)] = &of(&template(), &given)[..] else {
                panic!("{name}: {:?}", of(&template(), &given))
            };
            assert!(named == name && said.contains(says), "{named}: {said}, and not: {says}");
        }
        let mut given = whole();
        given.remove("VpcId");
        let missing = (
            "VpcId".to_owned(),
            "is missing, and has no default (The network that all of them lie in.)".to_owned(),
        );
        assert_eq!(of(&template(), &given), [missing]);
        given = whole();
        given.insert("BrokerIds".to_owned(), "0".to_owned());
        assert_eq!(of(&template(), &given).len(), 3, "all three lists have too many");
    }

    /// Of a template that is not kutover's, only what it says itself is held against it.
    #[test]
    fn a_template_of_somebodys_own_is_taken_at_its_word() {
        let json = r#"{"Parameters": {"Suffix": {"Type": "String"}, "BrokerIds": {"Type": "String", "AllowedValues": ["a", 7],
            "AllowedPattern": "(?<=x)."}, "Short": {"Type": "String", "Default": "", "MaxLength": 3}}}"#;
        let given =
            |of: &[(&str, &str)]| of.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        assert_eq!(of(json, &given(&[("BrokerIds", "7")])), []);
        assert!(of(json, &given(&[("BrokerIds", "b")]))[0].1.contains("`b` is none of a, 7"));
        assert!(of(json, &given(&[("BrokerIds", "a"), ("Short", "long")]))[0].1.contains("has 4 characters"));
        for (template, says) in [
            ("Resources: {}".to_owned(), "no section `Parameters`"),
            ("Parameters: [".to_owned(), "neither YAML nor JSON"),
            (" ".repeat(51_201), "it has 51201 bytes"),
        ] {
            let [(whole, said)] = &of(&template, &given(&[]))[..] else { panic!("{template}") };
            assert!(whole.is_empty() && said.contains(says), "{said}");
        }
    }
}
