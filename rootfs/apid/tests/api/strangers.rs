//! Who is let in, and what it may reach: certificates, roles, paths.

use crate::authority::Authority;
use crate::client::{self, Channel, LIMIT};
use crate::node::Node;
use crate::{all, logs, watch};
use podium_wire::cosi::GetRequest;
use podium_wire::machine::{DiskUsageRequest, ListRequest, ReadRequest, RebootRequest};
use podium_wire::resources::{MACHINE_CONFIGS, RESOURCE_DEFINITIONS};
use podium_wire::roles::{METHODS, Role};
use rcgen::ExtendedKeyUsagePurpose;
use time::{Duration, OffsetDateTime};
use tokio::time::timeout;
use tonic::Code;

/// Of Talos's own, what a Podium node has no part for; and what nobody has.
const UNKNOWN: [&str; 14] = [
    "/machine.MachineService/Upgrade",
    "/machine.MachineService/Rollback",
    "/machine.MachineService/Bootstrap",
    "/machine.MachineService/Kubeconfig",
    "/machine.MachineService/EtcdMemberList",
    "/machine.MachineService/GenerateClientConfiguration",
    "/machine.MachineService/PacketCapture",
    "/machine.MachineService/Copy",
    "/machine.MachineService/ImagePull",
    "/storage.StorageService/Disks",
    "/time.TimeService/Time",
    "/machine.MachineService/version",
    "/cosi.resource.State/Create",
    "/x",
];

#[tokio::test]
async fn each_method_answers_the_roles_that_the_list_says_and_no_others() {
    let node = Node::serving();
    for role in [None, Some(Role::Reader), Some(Role::Operator), Some(Role::Admin)] {
        let organizations = role.map(Role::organization);
        let organizations = organizations.as_ref().map_or(&["os:nobody"][..], std::slice::from_ref);
        let identity = node.ca.client(organizations);
        let mut channel = Channel::connect(node.address, &node.ca, Some(identity)).await.unwrap();
        for (path, needed, _) in METHODS {
            let answer = channel.call_empty(path, &[]).await;
            let name = path.rsplit('/').next().unwrap();
            if role >= Some(needed) {
                let code = answer.as_ref().err().map(tonic::Status::code);
                let refused =
                    [Code::PermissionDenied, Code::Unimplemented, Code::Unknown, Code::Internal].map(Some);
                assert!(!refused.contains(&code), "{role:?} {path}: {answer:?}");
            } else {
                let status = answer.unwrap_err();
                assert_eq!(status.code(), Code::PermissionDenied, "{role:?} {path}");
                assert!(
                    status.message().contains(name) && status.message().contains(needed.organization()),
                    "{status}"
                );
            }
        }
        for path in UNKNOWN {
            let status = channel.call_empty(path, &[]).await.unwrap_err();
            assert_eq!(status.code(), Code::Unimplemented, "{path}");
            let sentence = format!("a Podium node does not have the method {}", path[1..].replace('/', "."));
            assert_eq!(status.message(), sentence);
        }
    }
    // PID 1 was asked by the role of whoever called.
    assert!(node.init.asked("version").iter().any(|(by, _)| by == "reader"));
    assert!(node.init.asked("config apply").iter().all(|(by, _)| by == "admin"));
    assert!(node.init.asked("power off").iter().any(|(by, _)| by == "operator"));
    let audit: Vec<String> = node.said().into_iter().filter(|line| line.starts_with("audit: ")).collect();
    let has = |words: &[&str]| audit.iter().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(
        has(&["role=os:operator", "name=\"somebody\"", "method=\"Shutdown\"", "result=\"ok\""]),
        "{audit:?}"
    );
    assert!(has(&["role=os:reader", "method=\"Reboot\"", "result=\"PermissionDenied"]), "{audit:?}");
}

#[tokio::test]
async fn nobody_is_let_in_without_a_certificate_of_the_nodes_ca_that_is_valid_now() {
    let node = Node::serving();
    let stranger = Authority::new("stranger");
    // Of the same name as the node's.
    let impostor = Authority::new("one");
    let (now, day) = (OffsetDateTime::now_utc(), Duration::days(1));
    let admin = |from, until, usage| Some(node.ca.client_with(&["os:admin"], from, until, usage));
    let (client, server) = (ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth);
    for (what, identity) in [
        ("none", None),
        ("another CA's", Some(stranger.client(&["os:admin"]))),
        ("an impostor's", Some(impostor.client(&["os:admin"]))),
        ("expired", admin(now - day * 2, now - Duration::hours(1), client.clone())),
        ("not yet valid", admin(now + Duration::hours(1), now + day, client)),
        ("a server's", admin(now - day, now + day, server)),
    ] {
        assert!(Channel::connect(node.address, &node.ca, identity).await.is_err(), "{what}");
    }
    let old = client::tls12(&node.ca, node.ca.client(&["os:admin"]));
    assert!(client::stream(node.address, old).await.is_err(), "TLS 1.2");
    node.client(Role::Admin).await;
}

/// Who does not wait for the answer has made the call all the same.
#[tokio::test]
async fn a_call_that_its_client_resets_is_on_record() {
    let node = Node::serving();
    node.init.never_answers("reboot");
    let mut machine = node.client(Role::Operator).await.machine();
    let until = async |is_so: &dyn Fn() -> bool| {
        while !is_so() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let asked = || !node.init.asked("reboot").is_empty();
    tokio::select! {
        answer = machine.reboot(RebootRequest::default()) => panic!("{answer:?}"),
        asked = timeout(LIMIT, until(&asked)) => asked.expect("PID 1 is asked"),
    }
    let words = ["audit: ", "role=os:operator", "method=\"Reboot\"", "result=\"the caller has gone\""];
    let recorded = || node.said().iter().any(|line| words.iter().all(|word| line.contains(word)));
    timeout(LIMIT, until(&recorded)).await.expect("a line of the audit");
}

#[tokio::test]
async fn paths_and_links_lead_nowhere_else() {
    let node = Node::serving();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    node.put("var/log/podium/kubelet.log", "said\n");
    node.put("var/log/pods/default_web-node_1/c/0.log", "line\n");
    node.put("etc/file", "content");
    let link = |target: &std::path::Path, name: &str| {
        std::os::unix::fs::symlink(target, node.root().join(name)).unwrap();
    };
    link(&outside.path().join("secret"), "var/log/podium/evil.log");
    link(&outside.path().join("secret"), "var/log/pods/default_web-node_1/c/1.log");
    link(outside.path(), "var/log/pods/default_evil_1");
    link(&outside.path().join("secret"), "etc/link");
    link(std::path::Path::new("/etc/file"), "etc/inside");
    let machine = node.client(Role::Admin).await.machine();
    let logged = |namespace: &'static str, id: &str| {
        let (mut machine, request) = (machine.clone(), logs(namespace, id));
        async move { all(machine.logs(request).await?.into_inner()).await }
    };
    assert_eq!(logged("system", "kubelet").await.unwrap(), "said\n");
    let none = logged("system", "kubelt").await.unwrap_err();
    assert!(none.code() == Code::NotFound && none.message().contains("there are: evil, kubelet"), "{none:?}");
    for (namespace, id) in [
        ("system", "evil"),
        ("system", "../../../etc/file"),
        ("system", "none"),
        ("k8s.io", "default/web-node:c"),
        ("k8s.io", "default/evil:c"),
        ("k8s.io", "default/../web:c"),
        ("k8s.io", "../..:c"),
    ] {
        let status = logged(namespace, id).await.unwrap_err();
        let expected = [Code::NotFound, Code::InvalidArgument, Code::PermissionDenied];
        assert!(expected.contains(&status.code()), "{id}: {status:?}");
    }
    std::fs::remove_file(node.root().join("var/log/pods/default_web-node_1/c/1.log")).unwrap();
    assert_eq!(logged("k8s.io", "default/web-node:c").await.unwrap(), "line\n");
    let read = |path: &str| {
        let (mut machine, request) = (machine.clone(), ReadRequest { path: path.to_owned() });
        async move { all(machine.read(request).await?.into_inner()).await }
    };
    for path in ["/etc/file", "/../../etc/file", "/etc/inside", "/etc/../etc/./file"] {
        assert_eq!(read(path).await.unwrap(), "content", "{path}");
    }
    let up = "/..".repeat(20) + &outside.path().join("secret").display().to_string();
    for path in ["/etc/link", "etc/file", "/etc", &up, "", "/\0"] {
        assert!(read(path).await.is_err(), "{path:?}");
    }
    let list = |root: &str| {
        let (mut machine, request) =
            (machine.clone(), ListRequest { root: root.to_owned(), recurse: true, ..ListRequest::default() });
        async move {
            let mut stream = machine.list(request).await?.into_inner();
            let mut names = Vec::new();
            while let Some(file) = stream.message().await? {
                names.push((file.relative_name, file.link, file.is_dir));
            }
            Ok::<_, tonic::Status>(names)
        }
    };
    let names = list("/var/log/../../../../var/log/pods").await.unwrap();
    let is = |name: &str| names.iter().find(|(relative, ..)| relative == name);
    assert!(is("default_web-node_1/c/0.log").is_some() && is(".").is_some(), "{names:?}");
    let (_, target, is_dir) = is("default_evil_1").unwrap();
    assert!(
        *target == outside.path().display().to_string() && !is_dir && is("default_evil_1/secret").is_none()
    );
    assert!(list(&outside.path().display().to_string()).await.is_err() && list("relative").await.is_err());
    let request =
        DiskUsageRequest { paths: vec!["/var/log".into()], all: true, recursion_depth: 9, threshold: 0 };
    let mut stream = machine.clone().disk_usage(request).await.unwrap().into_inner();
    let mut sizes = std::collections::BTreeMap::new();
    while let Some(row) = stream.message().await.unwrap() {
        sizes.insert(row.relative_name, row.size);
    }
    let of = |name: &str| sizes[name];
    assert!(of("pods/default_web-node_1/c/0.log") > 0 && of(".") >= of("pods") + of("podium"), "{sizes:?}");
    assert!(!sizes.contains_key("pods/default_evil_1/secret"), "{sizes:?}");
}

#[tokio::test]
async fn only_an_admin_sees_the_config() {
    let node = Node::serving();
    let get = |kind: &str, id: &str| GetRequest {
        r#type: kind.into(),
        id: id.into(),
        namespace: String::new(),
        options: None,
    };
    for (role, sees) in [(Role::Reader, false), (Role::Operator, false), (Role::Admin, true)] {
        let mut state = node.client(role).await.state();
        let answer = state.get(get(MACHINE_CONFIGS, "v1alpha1")).await;
        assert_eq!(answer.is_ok(), sees, "{role:?}: {answer:?}");
        let watched = state.watch(watch(MACHINE_CONFIGS, "config")).await;
        assert_eq!(watched.is_ok(), sees, "{role:?}");
        let id = RESOURCE_DEFINITIONS.to_lowercase();
        let definition =
            state.get(get(RESOURCE_DEFINITIONS, &id)).await.unwrap().into_inner().resource.unwrap();
        let spec: podium_wire::cosi::ResourceDefinitionSpec =
            prost::Message::decode(definition.spec.unwrap().proto_spec.as_slice()).unwrap();
        assert_eq!(spec.resource_type, RESOURCE_DEFINITIONS);
        assert_eq!(state.get(get("Nothing.example", "x")).await.unwrap_err().code(), Code::NotFound);
    }
    assert!(node.init.asked("config get").iter().all(|(by, _)| by == "admin"));
    // It has keys in it: who has read it, or wanted to, is on record.
    let audit: Vec<String> = node.said().into_iter().filter(|line| line.starts_with("audit: ")).collect();
    let has = |words: &[&str]| audit.iter().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(has(&["role=os:admin", "method=\"Get\"", "what=\"MachineConfig", "result=\"ok\""]), "{audit:?}");
    assert!(has(&["role=os:admin", "method=\"Watch\"", "what=\"MachineConfig"]), "{audit:?}");
    assert!(has(&["role=os:reader", "what=\"MachineConfig", "result=\"PermissionDenied"]), "{audit:?}");
    assert!(!audit.iter().any(|line| line.contains("ResourceDefinition")), "{audit:?}");
}

/// As Talos has it: the paths themselves are the first level, so `usage -d 0` asks for one.
#[tokio::test]
async fn disk_usage_tells_as_many_levels_as_its_client_asks_for() {
    let node = Node::serving();
    node.put("var/log/podium/kubelet.log", "said\n");
    node.put("var/log/pods/p/c/0.log", "line\n");
    let mut machine = node.client(Role::Reader).await.machine();
    for (recursion_depth, expected) in [
        (1, &["."][..]),
        (2, &[".", "podium", "pods"]),
        (3, &[".", "podium", "pods", "pods/p"]),
        (0, &[".", "podium", "pods", "pods/p", "pods/p/c"]),
    ] {
        let request =
            DiskUsageRequest { paths: vec!["/var/log".into()], all: false, recursion_depth, threshold: 0 };
        let mut stream = machine.disk_usage(request).await.unwrap().into_inner();
        let mut names = std::collections::BTreeSet::new();
        while let Some(row) = stream.message().await.unwrap() {
            names.insert(row.relative_name);
        }
        let expected = expected.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(names, expected, "{recursion_depth}");
    }
}
