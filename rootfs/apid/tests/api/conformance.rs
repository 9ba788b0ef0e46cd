//! Each command of Talos's client against the server, by field numbers (`numbers.rs`): what is asked for, and the
//! fields of what comes back.

use crate::cri;
use crate::node::Node;
use crate::numbers::Message;
use podium_wire::roles::Role;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use tonic::Code;

const MACHINE: &str = "machine.MachineService";
const STATE: &str = "cosi.resource.State";
/// A double is exact where its value is a sum of halves.
const LOAD: &str = "0.50 0.25 0.125 1/99 77\n";

fn method(name: &str) -> String {
    format!("{MACHINE}/{name}")
}

fn none() -> Message {
    Message::default()
}

/// A node with the files that the answers come from.
fn node() -> Node {
    let node = Node::serving();
    node.put("proc/loadavg", LOAD);
    node.put(
        "proc/meminfo",
        "MemTotal:  2000 kB\nMemFree:  300 kB\nSReclaimable:  7 kB\nDirectMap1G:  9 kB\n",
    );
    node.put(
        "proc/stat",
        "cpu  100 200 300 400 500 600 700 800 900 1000\ncpu0 50 0 0 0 0 0 0 0 0 0\nintr 12 5 7\nctxt 34\n\
         btime 1700000000\nprocesses 56\nprocs_running 2\nprocs_blocked 1\nsoftirq 78 1 2 3 4 5 6 7 8 9 10\n",
    );
    node.put("proc/7/stat", "7 (sleep) S 1 7 7 0 -1 0 0 0 0 0 150 50 0 0 20 0 3 0 9 4096 2 0\n");
    node.put("proc/7/cmdline", "/bin/sleep\0forever\0");
    node.put("proc/self/mounts", "tmpfs /run tmpfs rw 0 0\n");
    node.put("etc/file", "content");
    std::os::unix::fs::symlink("file", node.root().join("etc/link")).unwrap();
    node.put("var/log/podium/kubelet.log", "one\ntwo\nthree\n");
    node.put("var/log/pods/default_web_uid-1/app/0.log", "2026-01-31T12:00:00.0Z stdout F said\n");
    node
}

#[tokio::test]
async fn version_hostname_and_what_the_kernel_counts() {
    let node = node();
    let channel = node.client(Role::Reader).await;
    let ask = async |name: &str| channel.ask_once(&method(name), &none()).await.unwrap().at(&[1]);

    let version = ask("Version").await;
    assert_eq!(version.fields(), [2, 3, 4]);
    let told = [[2, 1], [2, 2], [2, 5], [2, 6], [3, 1], [3, 2]].map(|way| version.str(&way));
    assert_eq!(told, ["v0.1.0", "abc", "linux", "amd64", "metal", "metal"]);
    assert_eq!(version.num(&[4, 1]), 1, "roles are in force");
    assert_eq!(ask("Hostname").await.str(&[2]), "node-1");

    let load = ask("LoadAvg").await;
    assert_eq!([2, 3, 4].map(|number| load.double(&[number])), [0.5, 0.25, 0.125]);
    let memory = ask("Memory").await.at(&[2]);
    assert_eq!([1, 2, 23, 48].map(|number| memory.num(&[number])), [2000, 300, 7, 9]);
    let stat = ask("SystemStat").await;
    assert_eq!(stat.num(&[2]), 1_700_000_000);
    let cpu: Vec<f64> = (1..=10).map(|number| stat.double(&[3, number])).collect();
    assert_eq!(cpu, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]);
    assert_eq!(stat.all(4).iter().map(|cpu| cpu.double(&[1])).collect::<Vec<_>>(), [0.5]);
    assert_eq!([5, 7, 8, 9, 10, 11].map(|number| stat.num(&[number])), [12, 34, 56, 2, 1, 78]);
    let soft: Vec<u64> = (1..=10).map(|number| stat.num(&[12, number])).collect();
    assert_eq!(soft, (1..=10).collect::<Vec<_>>());

    let processes = ask("Processes").await.all(2);
    let [sleep] = &processes[..] else { panic!("{processes:?}") };
    assert_eq!([1, 2, 4, 6].map(|number| sleep.num(&[number])), [7, 1, 3, 4096]);
    assert_eq!(sleep.double(&[5]), 2.0);
    let told = [3, 8, 9, 10].map(|number| sleep.str(&[number]));
    assert_eq!(told, ["S", "sleep", "/bin/sleep", "/bin/sleep forever"]);
    let page = u64::try_from(rustix::param::page_size()).unwrap();
    assert_eq!(sleep.num(&[7]), 2 * page);

    let mounts = ask("Mounts").await.all(2);
    let [run] = &mounts[..] else { panic!("{mounts:?}") };
    assert_eq!([run.str(&[1]), run.str(&[4])], ["tmpfs", "/run"]);
    assert!(run.num(&[2]) > run.num(&[3]) && run.num(&[3]) > 0, "{run:?}");
}

#[tokio::test]
async fn services_and_what_is_done_to_them() {
    let node = node();
    let channel = node.client(Role::Operator).await;
    let list = channel.ask_once(&method("ServiceList"), &none()).await.unwrap().at(&[1]).all(2);
    let told = |service: &Message| [service.str(&[1]), service.str(&[2])];
    assert_eq!(list.iter().map(told).collect::<Vec<_>>(), [["kubelet", "Running"], ["pki", "Finished"]]);
    let health = list[0].at(&[4]);
    assert_eq!([health.num(&[1]), health.num(&[2])], [0, 1], "known, and well");
    assert!(health.num(&[4, 1]) > 1_700_000_000, "since when, in seconds");
    for (name, word, said) in [
        ("ServiceStart", "start", "Service \"kubelet\" is being started"),
        ("ServiceStop", "stop", "Service \"kubelet\" is being stopped"),
        ("ServiceRestart", "restart", "Service \"kubelet\" is being restarted"),
    ] {
        let answer = channel.ask_once(&method(name), &none().text(1, "kubelet")).await.unwrap();
        assert_eq!(answer.at(&[1]).str(&[2]), said);
        let (role, asked) = node.init.asked("service").pop().unwrap();
        assert_eq!(
            (role.as_str(), &asked["name"], &asked["action"]),
            ("operator", &json!("kubelet"), &json!(word))
        );
    }
}

#[tokio::test]
async fn containers_and_their_use() {
    let node = node();
    cri::start(node.root());
    let channel = node.client(Role::Reader).await;
    let of_pods = none().text(1, "k8s.io").number(2, 1);
    let answer = channel.ask_once(&method("Containers"), &of_pods).await.unwrap();
    let rows = answer.at(&[1]).all(2);
    let row = |row: &Message| {
        let texts = [1, 2, 3, 5, 6, 7, 8, 9, 10].map(|number| row.str(&[number]));
        (texts.map(String::from).to_vec(), row.num(&[4]))
    };
    let wanted = |texts: [&str; 9], pid: u64| (texts.map(str::to_owned).to_vec(), pid);
    let (pod, hello) = ("default/web", "podium.local/hello:1");
    assert_eq!(
        rows.iter().map(row).collect::<Vec<_>>(),
        [
            wanted(
                [
                    "k8s.io",
                    pod,
                    "podium.local/pause:1",
                    "SANDBOX_READY",
                    pod,
                    "",
                    "/run/netns/x",
                    cri::SANDBOX,
                    "uid-1"
                ],
                41
            ),
            wanted(
                [
                    "k8s.io",
                    "default/web:app:c0ffee000000",
                    hello,
                    "CONTAINER_RUNNING",
                    pod,
                    "app",
                    "",
                    cri::RUNNING,
                    "uid-1"
                ],
                42
            ),
            wanted(
                [
                    "k8s.io",
                    "default/web:init:dead00000000",
                    hello,
                    "CONTAINER_EXITED",
                    pod,
                    "init",
                    "",
                    cri::ENDED,
                    "uid-1"
                ],
                0
            ),
        ]
    );
    let answer = channel.ask_once(&method("Stats"), &of_pods).await.unwrap();
    let stats = answer.at(&[1]).all(2);
    let [app] = &stats[..] else { panic!("{stats:?}") };
    let told = [1, 2, 6, 7].map(|number| app.str(&[number]));
    assert_eq!(told, ["k8s.io", "default/web:app:c0ffee000000", pod, "app"]);
    assert_eq!([app.num(&[4]), app.num(&[5])], [9 << 20, 7_000_000_000]);
    // The services are the system's containers.
    let answer = channel.ask_once(&method("Containers"), &none().text(1, "system")).await.unwrap();
    let rows = answer.at(&[1]).all(2);
    let [kubelet] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!([1, 2, 5].map(|number| kubelet.str(&[number])), ["system", "kubelet", "RUNNING"]);
    assert_eq!(kubelet.num(&[4]), 7);
}

#[tokio::test]
async fn logs_and_files() {
    let node = node();
    node.put("dev/kmsg", "6,1,1000000,-;said\n");
    let channel = node.client(Role::Admin).await;
    let text = async |name: &str, request: &Message| {
        let messages = channel.ask(&method(name), request, usize::MAX).await.unwrap();
        messages.iter().map(|data| data.str(&[2])).collect::<String>()
    };
    let of_service = none().text(1, "system").text(2, "kubelet");
    assert_eq!(text("Logs", &of_service.clone().signed(5, -1)).await, "one\ntwo\nthree\n");
    assert_eq!(text("Logs", &of_service.clone().signed(5, 1)).await, "three\n");
    let followed = channel.ask(&method("Logs"), &of_service.number(4, 1).signed(5, 2), 1).await.unwrap();
    assert_eq!(followed[0].str(&[2]), "two\nthree\n");
    let of_pod = none().text(1, "k8s.io").text(2, "default/web:app").number(3, 1).signed(5, -1);
    assert_eq!(text("Logs", &of_pod).await, "2026-01-31T12:00:00.0Z stdout F said\n");
    let ids = channel.ask_once(&method("LogsContainers"), &none()).await.unwrap();
    assert_eq!(ids.at(&[1]).texts(2), ["kubelet"]);
    let record = text("Dmesg", &none()).await;
    assert!(record.starts_with("kern:    info: [") && record.ends_with("Z]: said\n"), "{record:?}");

    assert_eq!(text("Read", &none().text(1, "/etc/file")).await, "content");
    let files = channel.ask(&method("List"), &none().text(1, "/etc").number(2, 1), usize::MAX).await.unwrap();
    let of =
        |name: &str| files.iter().find(|file| file.str(&[9]) == name).unwrap_or_else(|| panic!("{files:?}"));
    let file = of("file");
    assert_eq!((file.str(&[2]), file.num(&[3]), file.num(&[6])), ("/etc/file".to_owned(), 7, 0));
    let has = std::fs::metadata(node.root().join("etc/file")).unwrap().permissions().mode();
    assert_eq!(
        file.num(&[4]),
        u64::from(has & 0o777),
        "a mode as Go has it: a regular file has no bit for its type"
    );
    assert!(file.num(&[5]) > 1_700_000_000, "seconds");
    assert_eq!((of("kubernetes").num(&[6]), of("kubernetes").num(&[4]) >> 31), (1, 1), "a folder");
    assert_eq!(of("link").str(&[8]), "file");
    let used =
        channel.ask(&method("DiskUsage"), &none().number(2, 1).text(4, "/etc"), usize::MAX).await.unwrap();
    let file = used.iter().find(|row| row.str(&[5]) == "file").unwrap_or_else(|| panic!("{used:?}"));
    assert_eq!(file.str(&[2]), "/etc/file");
    assert!(file.num(&[3]) > 0, "{file:?}");
}

#[tokio::test]
async fn every_mode_of_apply_config_is_what_pid_1_is_asked_for() {
    let node = node();
    let channel = node.client(Role::Admin).await;
    let config = none().bytes(1, b"version: v1alpha1\n");
    let apply = async |request: Message| channel.ask_once(&method("ApplyConfiguration"), &request).await;
    // Asked for, what PID 1 hears, what is told that was done.
    for (mode, word, done, details) in [
        (0, "reboot", 0, "Applied configuration with a reboot"),
        (1, "auto", 2, "Applied configuration without a reboot"),
        (2, "no-reboot", 2, "Applied configuration without a reboot"),
        (3, "staged", 3, "Staged configuration to be applied after the next reboot"),
        (4, "try", 4, "Applied configuration for a try; it goes back unless it is applied again"),
    ] {
        let answer = apply(config.clone().number(4, mode)).await.unwrap().at(&[1]);
        assert_eq!(answer.texts(2), ["machine: warning: doubtful"]);
        assert_eq!((answer.num(&[3]), answer.str(&[4])), (done, details.to_owned()));
        let (role, asked) = node.init.asked("config apply").pop().unwrap();
        assert_eq!(
            (role.as_str(), &asked["mode"], &asked["dry_run"]),
            ("admin", &json!(word), &json!(false))
        );
        assert_eq!(asked["timeout_s"], Value::Null);
    }
    let timeout = |seconds: u64| config.clone().number(4, 4).message(6, &none().number(1, seconds));
    apply(timeout(90)).await.unwrap();
    assert_eq!(node.init.asked("config apply").pop().unwrap().1["timeout_s"], 90);
    assert_eq!(apply(timeout(0)).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(apply(config.clone().number(4, 5)).await.unwrap_err().code(), Code::InvalidArgument);

    let answer = apply(config.clone().number(4, 1).number(5, 1)).await.unwrap().at(&[1]);
    assert_eq!(
        answer.str(&[4]),
        "Dry run summary:\nApplying it needs no reboot.\nConfig diff:\n+ machine.env.A: \"1\"\n"
    );
    assert_eq!(node.init.asked("config apply").pop().unwrap().1["dry_run"], true);
    let wrong = apply(none().bytes(1, b"wrong: 1\n").number(4, 1)).await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    for part in ["the config has 1 error", "line 1: machine.wrong: unknown key", "mend them"] {
        assert!(wrong.message().contains(part), "{wrong:?}");
    }
}

#[tokio::test]
async fn the_end_of_a_nodes_life_and_what_is_told_of_it() {
    let node = node();
    let channel = node.client(Role::Admin).await;
    let all = none().signed(1, -1);
    let events = channel.ask(&method("Events"), &all, 2).await.unwrap();
    assert_eq!(events[0], Message::default(), "a hello");
    assert_eq!(events[1].str(&[2, 1]), "talos/runtime/machine.TaskEvent");
    assert_eq!(events[1].str(&[3]), "b-0000000001");
    assert_eq!(events[1].at(&[2, 2]).str(&[1]), "init 0.1.0");
    node.init.happens("service", Some("kubelet"), "up");
    let event = channel.ask(&method("Events"), &none().text(2, "b-0000000001"), 2).await.unwrap().remove(1);
    assert_eq!(event.str(&[2, 1]), "talos/runtime/machine.ServiceStateEvent");
    let state = event.at(&[2, 2]);
    assert_eq!((state.str(&[1]), state.num(&[2])), ("kubelet".to_owned(), 3), "it runs");
    assert_eq!([state.num(&[4, 1]), state.num(&[4, 2])], [0, 1]);

    let wipe = none().text(1, "STATE").number(2, 1);
    let ends = [
        ("Reboot", none().number(1, 1), "reboot"),
        ("Shutdown", none().number(1, 1), "power off"),
        ("Reset", none().number(1, 1).number(2, 1).message(3, &wipe), "reset"),
    ];
    for (before, (name, request, word)) in ends.into_iter().enumerate() {
        let actor = channel.ask_once(&method(name), &request).await.unwrap().at(&[1]).str(&[2]);
        assert!(actor.len() == 32 && actor.bytes().all(|byte| byte.is_ascii_hexdigit()), "{actor}");
        let (role, asked) = node.init.asked(word).pop().unwrap();
        assert_eq!(role, "admin");
        if word == "reset" {
            assert_eq!((&asked["reboot"], &asked["partitions"]), (&json!(true), &json!(["STATE"])));
        }
        node.init.happens("shutdown", None, &format!("{word}, asked by the API"));
        let of_actor = none().signed(1, -1).text(4, &actor);
        // A node ends once; this one has ended before, and whose its events are is the last one's to say.
        let told = channel.ask(&method("Events"), &of_actor, 2 * before + 3).await.unwrap();
        let [.., event, task] = &told[..] else { panic!() };
        assert_eq!([event.str(&[4]), task.str(&[4])], [actor.clone(), actor]);
        assert_eq!(event.str(&[2, 1]), "talos/runtime/machine.SequenceEvent");
        assert_eq!(task.str(&[2, 1]), "talos/runtime/machine.TaskEvent");
        assert_eq!(task.at(&[2, 2]).str(&[1]), "stopAllServices", "for this talosctl waits");
        let sequence = if word == "power off" { "shutdown" } else { word };
        let told = event.at(&[2, 2]);
        assert_eq!((told.str(&[1]), told.num(&[2])), (sequence.to_owned(), 1), "it begins");
    }
}

#[tokio::test]
async fn resources_as_get_asks_for_them() {
    const PODS: &str = "StaticPods.kubernetes.talos.dev";
    let node = node();
    let pod = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},"spec":{"containers":[{"name":"c","image":"i:1"}]}}"#;
    node.put("etc/kubernetes/manifests/podium-default-web.yaml", pod);
    node.put(
        "run/podium/pods.json",
        &json!({"pods": [{"id": "default-web", "namespace": "default", "name": "web", "uid": "u", "version": 3,
            "origin": "config", "file": "podium-default-web.yaml", "digest": "", "valid": true, "problems": []}]})
        .to_string(),
    );
    let channel = node.client(Role::Reader).await;
    let definitions = none().text(1, "meta").text(2, "ResourceDefinitions.meta.cosi.dev");
    let list = channel.ask(&format!("{STATE}/List"), &definitions, usize::MAX).await.unwrap();
    let of = |kind: &str| {
        let all = list.iter().map(|one| one.at(&[1]));
        all.into_iter()
            .find(|one| one.at(&[2, 1]).str(&[1]) == kind)
            .unwrap_or_else(|| panic!("{kind}: {list:?}"))
    };
    for (kind, display, namespace, alias, columns) in [
        (PODS, "StaticPod", "k8s", "staticpods", &[][..]),
        (
            "StaticPodStatuses.kubernetes.talos.dev",
            "StaticPodStatus",
            "k8s",
            "podstatus",
            &[("Ready", r#"{.conditions[?(@.type=="Ready")].status}"#)],
        ),
        (
            "Services.v1alpha1.talos.dev",
            "Service",
            "runtime",
            "services",
            &[("Running", "{.running}"), ("Healthy", "{.healthy}"), ("Health Unknown", "{.unknown}")],
        ),
        ("MachineConfigs.config.talos.dev", "MachineConfig", "config", "mc", &[]),
        (
            "ResourceDefinitions.meta.cosi.dev",
            "ResourceDefinition",
            "meta",
            "rd",
            &[("Aliases", "{.aliases[:]}")],
        ),
    ] {
        let definition = of(kind);
        let metadata = [1, 2, 3, 6].map(|number| definition.str(&[1, number]));
        assert_eq!(metadata, ["meta", "ResourceDefinitions.meta.cosi.dev", &kind.to_lowercase(), "running"]);
        let spec = definition.at(&[2, 1]);
        assert_eq!([1, 2, 3].map(|number| spec.str(&[number])), [kind, display, namespace]);
        assert!(spec.texts(4).iter().chain(&spec.texts(5)).any(|one| one == alias), "{alias}: {spec:?}");
        let have = spec.all(6).into_iter().map(|one| (one.str(&[1]), one.str(&[2])));
        let wanted = columns.iter().map(|(name, path)| ((*name).to_owned(), (*path).to_owned()));
        assert_eq!(have.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
        assert_eq!(spec.num(&[7]), u64::from(kind.starts_with("MachineConfigs")), "{kind}: sensitive");
    }

    let web = none().text(1, "k8s").text(2, PODS).text(3, "default-web");
    let resource = channel.ask_once(&format!("{STATE}/Get"), &web).await.unwrap().at(&[1]);
    let metadata = [1, 2, 3, 4, 6].map(|number| resource.str(&[1, number]));
    assert_eq!(metadata, ["k8s", PODS, "default-web", "3", "running"]);
    assert!(resource.str(&[2, 2]).contains("image: i:1"), "{resource:?}");
    let watch = none().text(1, "k8s").text(2, PODS).message(4, &none().number(1, 1)).number(5, 1);
    let events = channel.ask(&format!("{STATE}/Watch"), &watch, 3).await.unwrap();
    assert_eq!(events[0], Message::default(), "word that it has begun");
    let told: Vec<_> = events[1..].iter().flat_map(|one| one.all(1)).collect();
    assert_eq!(
        told.iter().map(|event| event.num(&[2])).collect::<Vec<_>>(),
        [0, 3],
        "what is there, and its end"
    );
    assert_eq!(told[0].at(&[1]), resource);
    let none_such = none().text(1, "k8s").text(2, PODS).text(3, "other");
    assert_eq!(
        channel.ask_once(&format!("{STATE}/Get"), &none_such).await.unwrap_err().code(),
        Code::NotFound
    );
    let config = none().text(1, "config").text(2, "MachineConfigs.config.talos.dev");
    let refused = channel.ask(&format!("{STATE}/List"), &config, 1).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "a reader sees no secrets");
}
