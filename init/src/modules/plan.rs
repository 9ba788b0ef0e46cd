//! Requests and tables in, load order out: finds the modules that are meant and all they need, then sorts them.
//!
//! Finding goes in rounds: one pass over `modules.dep` picks up the lines of all modules asked for so far, and what
//! those lines and `modules.softdep` name is asked for in the next round. A name is asked for once, so the rounds
//! end also when modules depend on each other in a circle.

use super::glob::Texts;
use super::{Known, Module, Plan, Tables, name, name_of_file};
use std::collections::{BTreeMap, BTreeSet};

/// The plan for some requests: names, aliases and modaliases in any mixture. It never fails; what could not be
/// answered is in the plan.
pub fn plan<'a>(tables: &'a Tables, requests: impl IntoIterator<Item = &'a str>, known: &Known) -> Plan {
    let requests: BTreeSet<&str> = requests.into_iter().filter(|request| !request.is_empty()).collect();
    let graph = Graph::of(tables, &requests);
    let mut order = Order { graph: &graph, known, marks: BTreeMap::new(), plan: Plan::default() };
    for request in requests {
        match graph.answers.get(request).map(Vec::as_slice) {
            None | Some([]) => order.plan.unknown.push(request.to_owned()),
            Some(answers) => {
                for module in answers {
                    order.plan.meant.insert(module.clone());
                    order.visit(module);
                }
            }
        }
    }
    order.plan
}

/// All modules that could be needed.
#[derive(Debug, Default)]
struct Graph<'a> {
    modules: BTreeMap<String, Node<'a>>,
    /// The modules that a request means; empty: it is unknown.
    answers: BTreeMap<&'a str, Vec<String>>,
}

/// One module's line of `modules.dep`, and its lines of `modules.softdep`.
#[derive(Debug, Default)]
struct Node<'a> {
    /// Below the folder of the kernel release; empty: part of the kernel, nothing to load.
    file: &'a str,
    needs: Vec<String>,
    before: Vec<&'a str>,
    after: Vec<&'a str>,
}

impl<'a> Graph<'a> {
    fn of(tables: &'a Tables, requests: &BTreeSet<&'a str>) -> Self {
        let mut graph = Self::default();
        let mut asked = requests.clone();
        let mut names: BTreeSet<String> = BTreeSet::new();
        // Files of dependencies, for those that have no line of their own.
        let mut files: BTreeMap<String, &'a str> = BTreeMap::new();
        // Names that were looked for, found or not: this is why the rounds end.
        let mut tried: BTreeSet<String> = BTreeSet::new();
        while !asked.is_empty() || !names.is_empty() {
            // A modalias is never a name; all others may be one.
            let plain = asked.iter().filter(|request| !request.contains(':'));
            let mut wanted: BTreeSet<String> = plain.map(|request| name(request)).collect();
            wanted.append(&mut names);
            let found = graph.take_dep_lines(&tables.dep, &wanted, &mut files);
            tried.extend(wanted.iter().cloned());
            // An alias or a softdep may name a module that is not there; a dependency has at least a file.
            for (module, file) in files.iter().filter(|(module, _)| tried.contains(*module)) {
                graph.modules.entry(module.clone()).or_insert_with(|| Node { file, ..Node::default() });
            }
            graph.answer(tables, std::mem::take(&mut asked), &wanted);
            let soft = graph.take_soft_lines(&tables.softdep, &found);
            asked.extend(soft.into_iter().filter(|request| !graph.answers.contains_key(request)));
            let needed =
                found.iter().filter_map(|module| graph.modules.get(module)).flat_map(|node| &node.needs);
            let answers = graph.answers.values().flatten();
            names.extend(needed.chain(answers).filter(|module| !tried.contains(*module)).cloned());
        }
        // What an alias led to but no table holds is no answer.
        for answers in graph.answers.values_mut() {
            answers.retain(|module| graph.modules.contains_key(module));
        }
        graph
    }

    /// One pass over `modules.dep`: takes the lines of the wanted modules; gives those found.
    fn take_dep_lines(
        &mut self,
        dep: &'a str,
        wanted: &BTreeSet<String>,
        files: &mut BTreeMap<String, &'a str>,
    ) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for line in dep.lines() {
            let Some((file, needs)) = line.split_once(':') else { continue };
            let Some(module) = name_of_file(file).filter(|module| wanted.contains(module)) else { continue };
            let mut node = Node { file, ..Node::default() };
            for file in needs.split_ascii_whitespace() {
                let Some(need) = name_of_file(file) else { continue };
                files.insert(need.clone(), file);
                node.needs.push(need);
            }
            if !self.modules.contains_key(&module) {
                self.modules.insert(module.clone(), node);
                found.insert(module);
            }
        }
        found
    }

    /// Answers requests: by name, else as part of the kernel, else by alias in one pass over `modules.alias`.
    fn answer(&mut self, tables: &'a Tables, asked: BTreeSet<&'a str>, wanted: &BTreeSet<String>) {
        let mut open: Vec<&'a str> = Vec::new();
        for request in asked {
            let module = name(request);
            if self.modules.contains_key(&module) {
                self.answers.insert(request, vec![module]);
            } else {
                open.push(request);
            }
        }
        let built_in: BTreeSet<String> = match open.is_empty() {
            true => BTreeSet::new(),
            false => {
                tables.builtin.lines().filter_map(name_of_file).filter(|name| wanted.contains(name)).collect()
            }
        };
        open.retain(|request| {
            let module = name(request);
            let is_built_in = built_in.contains(&module);
            if is_built_in {
                self.modules.entry(module.clone()).or_default();
                self.answers.insert(request, vec![module]);
            }
            !is_built_in
        });
        for request in &open {
            self.answers.insert(request, Vec::new());
        }
        if open.is_empty() {
            return;
        }
        let open = Texts::new(open);
        for line in tables.alias.lines() {
            let Some((pattern, module)) = line.strip_prefix("alias ").and_then(|line| line.rsplit_once(' '))
            else {
                continue;
            };
            for request in open.matching(pattern) {
                let answers = self.answers.entry(request).or_default();
                let module = name(module);
                if !answers.contains(&module) {
                    answers.push(module);
                }
            }
        }
    }

    /// One pass over `modules.softdep` for the modules found last; gives all that they name.
    fn take_soft_lines(&mut self, softdep: &'a str, found: &BTreeSet<String>) -> BTreeSet<&'a str> {
        let mut named = BTreeSet::new();
        if found.is_empty() {
            return named;
        }
        for line in softdep.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some("softdep"), Some(module)) = (words.next(), words.next()) else { continue };
            let module = name(module);
            let Some(node) = found.get(&module).and_then(|module| self.modules.get_mut(module)) else {
                continue;
            };
            // Names before the first `pre:` or `post:` are without meaning.
            let mut side = None;
            for word in words {
                match (word, &mut side) {
                    ("pre:", side) => *side = Some(true),
                    ("post:", side) => *side = Some(false),
                    (_, None) => {}
                    (soft, Some(is_before)) => {
                        if *is_before { &mut node.before } else { &mut node.after }.push(soft);
                        named.insert(soft);
                    }
                }
            }
        }
        named
    }
}

/// The depth-first walk that sorts.
#[derive(Debug)]
struct Order<'g, 'a> {
    graph: &'g Graph<'a>,
    known: &'g Known,
    marks: BTreeMap<&'g str, Mark>,
    plan: Plan,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// Its dependencies are being visited; met again, it is part of a circle, which is cut here.
    Visiting,
    Done,
    Blocked,
}

impl<'g> Order<'g, '_> {
    /// Puts a module and what it needs into the plan; `false`: it may not be loaded. It goes as deep as the longest
    /// chain of dependencies, at most the number of modules.
    fn visit(&mut self, module: &str) -> bool {
        let graph: &'g Graph<'_> = self.graph;
        let Some((module, node)) = graph.modules.get_key_value(module) else { return true };
        if let Some(mark) = self.marks.get(module.as_str()) {
            return *mark != Mark::Blocked;
        }
        if self.known.loaded.contains(module) || node.file.is_empty() {
            self.marks.insert(module, Mark::Done);
            return true;
        }
        if self.known.blacklist.contains(module) {
            return self.block(module);
        }
        self.marks.insert(module, Mark::Visiting);
        self.visit_soft(&node.before);
        let mut is_allowed = true;
        // depmod writes the nearest dependency first.
        for need in node.needs.iter().rev() {
            is_allowed &= self.visit(need);
        }
        if !is_allowed {
            return self.block(module);
        }
        self.plan.load.push(Module { name: module.clone(), file: node.file.to_owned() });
        self.marks.insert(module, Mark::Done);
        self.visit_soft(&node.after);
        true
    }

    fn visit_soft(&mut self, requests: &[&str]) {
        let graph: &'g Graph<'_> = self.graph;
        for module in requests.iter().filter_map(|request| graph.answers.get(request)).flatten() {
            self.visit(module);
        }
    }

    fn block(&mut self, module: &'g str) -> bool {
        self.marks.insert(module, Mark::Blocked);
        self.plan.blocked.insert(module.to_owned());
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEP: &str = "\
kernel/fs/erofs/erofs.ko: kernel/lib/libcrc32c.ko
kernel/lib/libcrc32c.ko:
kernel/arch/x86/crypto/crc32c-intel.ko:
kernel/crypto/crc32c_generic.ko.xz:
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio.ko:
kernel/net/bridge/br_netfilter.ko: kernel/net/bridge/bridge.ko kernel/net/802/stp.ko kernel/net/llc/llc.ko
kernel/net/bridge/bridge.ko: kernel/net/802/stp.ko kernel/net/llc/llc.ko
kernel/net/802/stp.ko: kernel/net/llc/llc.ko
kernel/drivers/vfio/vfio.ko:
kernel/drivers/vfio/vfio_iommu_type1.ko: kernel/drivers/vfio/vfio.ko
kernel/a/ring-one.ko: kernel/a/ring-two.ko
kernel/a/ring-two.ko: kernel/a/ring-one.ko
a line that is none
";
    const ALIAS: &str = "\
# Aliases extracted from modules themselves.
alias fs-erofs erofs
alias virtio:d00000002v* virtio_blk
alias crc32c crc32c_intel
alias crypto-crc32c crc32c_intel
alias crc32c crc32c_generic
alias rtnl-link-bridge bridge
alias gone-* not_in_dep
alias
";
    const SOFTDEP: &str = "\
# Soft dependencies extracted from modules themselves.
softdep libcrc32c pre: crc32c
softdep vfio post: vfio_iommu_type1 vfio_iommu_spapr_tce
softdep erofs nothing pre: ring-one
softdep cut
";

    fn tables() -> Tables {
        Tables {
            dep: DEP.into(),
            alias: ALIAS.into(),
            softdep: SOFTDEP.into(),
            builtin: "kernel/fs/ext4/ext4.ko\nkernel/drivers/tty/serial/8250/8250-base.ko\n".into(),
        }
    }

    fn names(plan: &Plan) -> Vec<&str> {
        plan.load.iter().map(|module| module.name.as_str()).collect()
    }

    fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
        names.map(str::to_owned).into()
    }

    #[test]
    fn a_modalias_loads_its_driver_after_what_it_needs() {
        let plan = plan(&tables(), ["virtio:d00000002v00001AF4"], &Known::default());
        assert_eq!(names(&plan), ["virtio", "virtio_ring", "virtio_blk"]);
        assert_eq!(plan.meant, set(["virtio_blk"]));
        assert_eq!(plan.load[2].file, "kernel/drivers/block/virtio_blk.ko");
    }

    #[test]
    fn names_go_with_dashes_and_underscores() {
        for request in ["br-netfilter", "br_netfilter"] {
            let plan = plan(&tables(), [request], &Known::default());
            let order = names(&plan);
            assert_eq!(order.len(), 4, "{order:?}");
            let at = |name| order.iter().position(|have| *have == name).unwrap();
            assert!(at("llc") < at("stp") && at("stp") < at("bridge") && at("bridge") < at("br_netfilter"));
        }
    }

    #[test]
    fn a_dependency_without_a_line_of_its_own_is_loaded_from_the_file_in_its_dependents_line() {
        let plan = plan(&tables(), ["rtnl-link-bridge"], &Known::default());
        assert!(plan.load.contains(&Module { name: "llc".into(), file: "kernel/net/llc/llc.ko".into() }));
    }

    #[test]
    fn soft_dependencies_before_and_after_by_alias() {
        let erofs = plan(&tables(), ["fs-erofs"], &Known::default());
        let order = names(&erofs);
        let at = |name| order.iter().position(|have| *have == name).unwrap();
        assert!(at("crc32c_intel") < at("libcrc32c") && at("crc32c_generic") < at("libcrc32c"), "{order:?}");
        assert!(at("libcrc32c") < at("erofs") && at("ring_one") < at("erofs"), "{order:?}");
        assert!(erofs.unknown.is_empty(), "`nothing` stands before `pre:` and means nothing");

        let vfio = plan(&tables(), ["vfio"], &Known::default());
        assert_eq!(
            names(&vfio),
            ["vfio", "vfio_iommu_type1"],
            "and no complaint of spapr, which is not there"
        );
        assert!(vfio.unknown.is_empty());
    }

    #[test]
    fn what_is_loaded_is_not_loaded_again() {
        let known = Known { loaded: set(["libcrc32c", "ring_one"]), ..Known::default() };
        assert_eq!(names(&plan(&tables(), ["erofs"], &known)), ["erofs"]);
        let known = Known { loaded: set(["erofs"]), ..Known::default() };
        let plan = plan(&tables(), ["erofs"], &known);
        assert!(plan.load.is_empty() && plan.unknown.is_empty() && plan.meant == set(["erofs"]));
    }

    #[test]
    fn circles_are_cut_and_each_module_is_loaded_once() {
        let plan = plan(&tables(), ["ring-one", "ring_two"], &Known::default());
        assert_eq!(names(&plan), ["ring_two", "ring_one"]);
    }

    #[test]
    fn a_blacklisted_module_takes_its_dependents_with_it() {
        let known = Known { blacklist: set(["stp"]), ..Known::default() };
        let plan = plan(&tables(), ["br_netfilter", "vfio"], &known);
        assert_eq!(plan.blocked, set(["stp", "bridge", "br_netfilter"]));
        assert_eq!(
            names(&plan).into_iter().filter(|name| *name != "llc").collect::<Vec<_>>(),
            ["vfio", "vfio_iommu_type1"]
        );
    }

    #[test]
    fn a_blacklisted_soft_dependency_holds_nothing_up() {
        let known = Known { blacklist: set(["crc32c_intel"]), ..Known::default() };
        let plan = plan(&tables(), ["libcrc32c"], &known);
        assert_eq!(names(&plan), ["crc32c_generic", "libcrc32c"]);
    }

    #[test]
    fn built_in_is_known_and_nothing_to_load_and_the_rest_is_unknown() {
        let plan =
            plan(&tables(), ["ext4", "8250_base", "zfs", "gone-x", "pci:v0000", ""], &Known::default());
        assert!(plan.load.is_empty());
        assert_eq!(plan.meant, set(["8250_base", "ext4"]));
        assert_eq!(plan.unknown, ["gone-x", "pci:v0000", "zfs"]);
    }

    #[test]
    fn aliases_that_lead_nowhere_one_after_the_other_end() {
        let tables = Tables {
            dep: "k/a.ko:\nk/b.ko:\n".into(),
            alias: "alias x gone_one\nalias y gone_two\nalias z b\n".into(),
            softdep: "softdep a pre: x\nsoftdep b pre: y\nsoftdep a post: z\n".into(),
            ..Tables::default()
        };
        assert_eq!(names(&plan(&tables, ["a", "x"], &Known::default())), ["a", "b"]);
    }

    #[test]
    fn empty_tables_know_nothing() {
        let plan = plan(&Tables::default(), ["erofs"], &Known::default());
        assert_eq!(plan.unknown, ["erofs"]);
    }

    proptest! {
        /// Dependencies drawn at random, circles included: everything reachable is loaded, once, and outside of
        /// circles after what it needs.
        #[test]
        fn order_holds_for_random_dependencies(edges in proptest::collection::vec((0_u8..12, 0_u8..12), 0..40)) {
            let mut dep = String::new();
            for module in 0..12 {
                dep.push_str(&format!("k/m{module}.ko:"));
                for (_, need) in edges.iter().filter(|(from, _)| *from == module) {
                    dep.push_str(&format!(" k/m{need}.ko"));
                }
                dep.push('\n');
            }
            let tables = Tables { dep, ..Tables::default() };
            let plan = plan(&tables, ["m0", "m1"], &Known::default());
            let reach = |start: u8| {
                let mut seen = BTreeSet::from([start]);
                while let Some((_, next)) = edges.iter().find(|(from, to)| seen.contains(from) && !seen.contains(to)) {
                    seen.insert(*next);
                }
                seen
            };
            let want: BTreeSet<String> = reach(0).union(&reach(1)).map(|module| format!("m{module}")).collect();
            let order = names(&plan);
            prop_assert_eq!(order.len(), want.len());
            prop_assert_eq!(order.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(), want);
            let at = |module: u8| order.iter().position(|have| *have == format!("m{module}"));
            for (from, to) in &edges {
                if let (Some(dependent), Some(need)) = (at(*from), at(*to)) {
                    prop_assert!(need < dependent || reach(*to).contains(from), "m{} before m{}", from, to);
                }
            }
        }

        #[test]
        fn garbage_in_tables_and_requests_never_panics(dep in r"[\PC:./ \n]{0,200}", alias in r"(alias [a*?\[]{0,9} [a-c]{1,3}\n){0,9}", request in r"\PC{0,20}") {
            let tables = Tables { softdep: dep.clone(), builtin: dep.clone(), dep, alias };
            let plan = plan(&tables, [request.as_str()], &Known::default());
            prop_assert!(plan.unknown.len() <= 1);
        }
    }
}
