//! Which sections there are. A new section, or a new crate, is one line in [`SECTIONS`].

use super::{check::Check, purity, setup};
use crate::{aws, controls, docs, lint, mutants, simulate, terraform, worlds};

/// One named part of the test run.
pub(crate) struct Section {
    /// The word for `--only`.
    pub(crate) name: &'static str,
    /// What `--list` says.
    pub(crate) about: &'static str,
    /// Packages whose test targets are run.
    pub(crate) packages: &'static [&'static str],
    /// Test targets of packages that are shared among sections, each with its package.
    pub(crate) targets: &'static [(&'static str, &'static str)],
    /// Test targets, each with its package, that are built with the feature `tls`: librdkafka once more, so that
    /// nobody else's build pays for it.
    pub(crate) tls: &'static [(&'static str, &'static str)],
    /// Whether the workspace's documentation examples are run.
    pub(crate) doc_tests: bool,
    /// What the tests need from the machine; looked for, and where possible set up, before they run.
    pub(crate) needs: &'static [setup::Need],
    /// Checks of the section's own, each counted as a test.
    pub(crate) checks: &'static [Check],
    /// It computes and waits for nothing: in a whole run it runs beside the others.
    pub(crate) beside: bool,
    /// Only a long form: it is run with `--nightly`, or if it is named.
    pub(crate) only_nightly: bool,
}

/// A section before anything is said about it.
const PLAIN: Section = Section {
    name: "",
    about: "",
    packages: &[],
    targets: &[],
    tls: &[],
    doc_tests: false,
    needs: &[],
    checks: &[],
    beside: false,
    only_nightly: false,
};

/// All sections, in the order in which they run: what is quick to fail comes first.
pub(crate) const SECTIONS: &[Section] = &[
    Section {
        name: "lint",
        about: "formatting, clippy, rustdoc, dependencies and licences, tidy rules",
        packages: &["xtask"],
        checks: lint::CHECKS,
        ..PLAIN
    },
    Section {
        name: "core",
        about: "kutover-core, and the proof that it is pure: no runtime, clock, randomness or I/O",
        packages: &["kutover-core"],
        checks: purity::CHECKS,
        beside: true,
        ..PLAIN
    },
    Section {
        name: "ports",
        about: "the ports' conformance suites, the in-memory world, a backend as a user writes it",
        packages: &["directory-journal", "kutover-memory", "kutover-testkit"],
        ..PLAIN
    },
    Section {
        name: "controller",
        about: "the cutover's driver, its journal and configuration",
        packages: &["kutover-controller"],
        ..PLAIN
    },
    Section {
        name: "sim",
        about: "seeded simulation of whole deployments, with everything going wrong",
        packages: &["kutover-sim"],
        checks: simulate::CHECKS,
        beside: true,
        ..PLAIN
    },
    Section {
        name: "worlds",
        about: "exhaustive small worlds: the machines inside a model checker",
        packages: &["kutover-worlds"],
        checks: worlds::CHECKS,
        beside: true,
        ..PLAIN
    },
    Section {
        name: "controls",
        about: "every defence taken out in turn, and what notices",
        checks: controls::CHECKS,
        beside: true,
        ..PLAIN
    },
    Section {
        name: "dns",
        about: "the resolver watch, dynamic updates on BIND, Knot and PowerDNS, a cutover on BIND, the local server",
        packages: &["kutover-dns"],
        targets: &[("kutover-tests", "bind")],
        needs: setup::NAME_SERVERS_AND_KAFKA,
        ..PLAIN
    },
    Section {
        name: "aws",
        about: "Route 53, S3, CloudFormation in emulation, a cutover on them; template, user data, policy; secrets; other provisioners",
        packages: &["kutover-aws", "kutover-provision", "kutover-tests-aws"],
        needs: setup::AWS,
        checks: aws::CHECKS,
        ..PLAIN
    },
    Section {
        name: "kafka",
        about: "all that is done to and seen of a cluster, and whole cutovers, on real Kafka; stock clients; secured clusters",
        packages: &[
            "kutover-admin",
            "kutover-bench",
            "kutover-clash",
            "kutover-connect",
            "kutover-kafka",
            "kutover-tests-kafka",
        ],
        targets: &[
            ("kutover-tests", "apache"),
            ("kutover-tests", "refusals"),
            ("kutover-tests", "stragglers"),
            ("kutover-tests", "wait_group"),
        ],
        tls: &[("kutover-tests", "secured")],
        needs: setup::SECURED_KAFKA,
        checks: controls::CHECKS_ON_KAFKA,
        ..PLAIN
    },
    Section {
        name: "producer",
        about: "BlueGreenProducer, and its switch",
        packages: &["kutover-producer"],
        ..PLAIN
    },
    Section {
        name: "lab",
        about: "embedded clusters, the forwarder, Apache Kafka processes",
        packages: &["kutover-lab"],
        needs: setup::REAL_KAFKA,
        ..PLAIN
    },
    Section {
        name: "e2e",
        about: "the program and whole cutovers, on embedded clusters",
        packages: &["kutover", "kutover-audit"],
        targets: &[
            ("kutover-tests", "bad_input"),
            ("kutover-tests", "embedded"),
            ("kutover-tests", "resume"),
        ],
        ..PLAIN
    },
    Section {
        name: "docs",
        about: "links, the commands that the documents show, documentation examples",
        doc_tests: true,
        checks: docs::CHECKS,
        ..PLAIN
    },
    Section {
        name: "terraform",
        about: "the provisioner's example on Terraform itself, which is built (with --nightly)",
        checks: terraform::CHECKS,
        only_nightly: true,
        ..PLAIN
    },
    Section {
        name: "mutants",
        about: "every expression of the machines and decisions changed in turn (hours; with --nightly)",
        checks: mutants::CHECKS,
        only_nightly: true,
        ..PLAIN
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::SECTIONS;
    use crate::test::Context;

    /// A crate, or a test of a shared one, that no section names would never be run; one that two name, twice.
    #[test]
    fn every_package_or_test_of_the_workspace_is_in_exactly_one_section() {
        let context = Context::new(false).unwrap();
        let args = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
        let metadata = context.cargo(args).quiet().read().unwrap();
        let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let packages: BTreeSet<String> =
            SECTIONS.iter().flat_map(|section| section.packages).map(|name| (*name).to_owned()).collect();
        let mut members = BTreeSet::new();
        for package in metadata["packages"].as_array().unwrap() {
            let name = text(&package["name"]);
            if packages.contains(&name) {
                members.insert((name, None));
                continue;
            }
            let targets = package["targets"].as_array().unwrap().iter();
            let tests = targets.filter(|target| target["kind"][0] == "test");
            members.extend(tests.map(|test| (name.clone(), Some(text(&test["name"])))));
        }
        let mut named = BTreeSet::new();
        for section in SECTIONS {
            let whole = section.packages.iter().map(|package| (*package, None));
            let shared = section.targets.iter().chain(section.tls);
            for (package, test) in whole.chain(shared.map(|(package, test)| (*package, Some(*test)))) {
                let this = (package.to_owned(), test.map(str::to_owned));
                assert!(named.insert(this), "{package} {test:?} is in two sections");
            }
        }
        assert_eq!(
            named, members,
            "left: in a section of xtask/src/test/sections.rs; right: in the workspace"
        );
    }

    #[test]
    fn every_section_has_a_name_of_its_own_and_something_to_do() {
        let mut names = BTreeSet::new();
        for section in SECTIONS {
            assert!(names.insert(section.name), "two sections are named {}", section.name);
            assert!(!section.about.is_empty(), "{} does not say what it is", section.name);
            let does_something =
                !section.packages.is_empty() || section.doc_tests || !section.checks.is_empty();
            assert!(does_something, "{} runs nothing", section.name);
        }
    }
}
