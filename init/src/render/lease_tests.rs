//! Environments as dhcpcd 9.4.1 was seen to hand them to its hook, and some that it should not.

use super::*;

fn env(text: &str) -> Env {
    let pairs = text.lines().filter_map(|line| line.trim().split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn read(text: &str) -> Change {
    change(&env(text), |_| None).unwrap()
}

fn state(changes: &[&str]) -> State {
    let mut state = State::default();
    for text in changes {
        state.apply(&read(text));
    }
    state
}

const BOUND: &str = "reason=BOUND
    interface=eth0
    protocol=dhcp
    ifmetric=1003
    new_ip_address=10.9.0.29
    new_subnet_cidr=24
    new_routers=10.9.0.1
    new_domain_name_servers=10.9.0.1 9.9.9.9
    new_host_name=Node7
    new_domain_name=example.org
    new_ntp_servers=10.9.0.2 10.9.0.3
    new_domain_search=a.example b.example";

const ROUTER: &str = "reason=ROUTERADVERT
    interface=eth0
    protocol=ra
    ifmetric=1003
    nd1_from=fe80::b8dc:a1ff:fe27:cbb9
    nd1_prefix_information1_prefix=fd00:5::
    nd1_rdnss1_servers=fd00:5::53 fe80::53%eth0
    nd1_dnssl1_search=v6.example
    nd1_addr1=fd00:5::c861:eaff:fe16:18fe/64";

#[test]
fn a_dhcp_lease_is_read() {
    let want = Lease {
        addresses: vec![Cidr::parse("10.9.0.29/24").unwrap()],
        nameservers: vec!["10.9.0.1".parse().unwrap(), "9.9.9.9".parse().unwrap()],
        search: vec!["a.example".into(), "b.example".into()],
        hostname: Some("node7".into()),
        time_servers: vec!["10.9.0.2".parse().unwrap(), "10.9.0.3".parse().unwrap()],
    };
    assert_eq!(
        read(BOUND),
        Change { interface: "eth0".into(), metric: 1003, what: What::Has(Source::Dhcp, want) }
    );
}

#[test]
fn a_router_advertisement_is_read_without_link_local_servers() {
    let What::Has(Source::Router, lease) = read(ROUTER).what else { panic!() };
    assert_eq!(lease.addresses, [Cidr::parse("fd00:5::c861:eaff:fe16:18fe/64").unwrap()]);
    assert_eq!(lease.nameservers, ["fd00:5::53".parse::<IpAddr>().unwrap()]);
    assert_eq!(lease.search, ["v6.example"]);
}

#[test]
fn a_dhcpv6_lease_is_read() {
    let text = "reason=BOUND6\ninterface=eth0\nnew_dhcp6_ia_na1_iaid=0a\nnew_dhcp6_ia_na1_ia_addr1=fd00::7
        new_dhcp6_ia_na1_ia_addr1_pltime=3600\nnew_dhcp6_name_servers=fd00::53\nnew_dhcp6_sntp_servers=fd00::123";
    let What::Has(Source::Dhcp6, lease) = read(text).what else { panic!() };
    assert_eq!(lease.addresses, [Cidr::parse("fd00::7/128").unwrap()]);
    assert_eq!(lease.time_servers, ["fd00::123".parse::<IpAddr>().unwrap()]);
}

/// What the config says of eth0, with and without DHCP.
fn wanted(dhcp: bool) -> Wanted {
    let addresses = ["10.0.0.1/8", "10.0.0.2/8", "fd00::5/64", "fd00::6/64"];
    let addresses = addresses.iter().filter_map(|text| Cidr::parse(text)).collect();
    Wanted { name: "eth0".into(), dhcp, addresses, routes: Vec::new(), mtu: None }
}

#[test]
fn static_addresses_that_dhcpcd_does_not_tell_of_are_the_configs() {
    let static_one = "STATIC\nnew_ip_address=10.0.0.1\nnew_subnet_cidr=8";
    for (reason, dhcp, want) in [
        (static_one, false, Some((Source::Static, vec!["10.0.0.1/8", "10.0.0.2/8"]))),
        ("STATIC6", false, Some((Source::Static6, vec!["fd00::5/64", "fd00::6/64"]))),
        ("STATIC6", true, Some((Source::Static6, vec!["fd00::5/64", "fd00::6/64"]))),
        ("CARRIER", true, Some((Source::Static, vec!["10.0.0.1/8", "10.0.0.2/8"]))),
        ("CARRIER", false, None),
    ] {
        let change =
            change(&env(&format!("interface=eth0\nreason={reason}")), |_| Some(wanted(dhcp))).unwrap();
        let have = match change.what {
            What::Has(source, lease) => Some((source, lease.addresses)),
            _ => None,
        };
        let want = want.map(|(source, texts)| {
            (source, texts.into_iter().map(|text| Cidr::parse(text).unwrap()).collect::<Vec<_>>())
        });
        assert_eq!(have, want, "{reason}, dhcp {dhcp}");
    }
}

#[test]
fn routes_beside_dhcp_wait_for_its_address() {
    assert_eq!(Source::Static.routes(&wanted(true)), None);
    assert_eq!(Source::Dhcp.routes(&wanted(true)), Some(Family::V4));
    assert_eq!(Source::Static.routes(&wanted(false)), Some(Family::V4));
    assert_eq!(Source::Static6.routes(&wanted(true)), Some(Family::V6));
}

#[test]
fn a_carrier_without_a_config_changes_nothing() {
    assert_eq!(read("reason=CARRIER\ninterface=eth0").what, What::Nothing);
}

#[test]
fn what_a_server_says_is_held_to_its_form() {
    let long = format!("new_domain_name_servers={}", "10.0.0.1 ".repeat(99));
    for (line, want) in [
        ("new_ip_address=10.0.0.5 evil", Lease::default()),
        ("new_host_name=a b", Lease::default()),
        ("new_host_name=localhost", Lease::default()),
        ("new_host_name=localhost.localdomain", Lease::default()),
        ("new_host_name=-x", Lease::default()),
        ("new_domain_search=$(reboot) ;x", Lease::default()),
        ("new_domain_name_servers=0.0.0.0 224.0.0.1 nonsense", Lease::default()),
        ("new_ntp_servers=time.example", Lease::default()),
        (
            long.as_str(),
            Lease { nameservers: vec!["10.0.0.1".parse().unwrap(); MAX_SERVERS], ..Lease::default() },
        ),
    ] {
        let read = read(&format!("reason=BOUND\ninterface=eth0\nnew_subnet_cidr=24\n{line}"));
        assert_eq!(read.what, What::Has(Source::Dhcp, want), "{line}");
    }
    // A newline cannot come in by a line of this test's environment.
    let mut env = env(BOUND);
    env.insert("new_host_name".into(), "a\nb".into());
    env.insert("new_domain_search".into(), "a.example\noptions".into());
    let What::Has(_, lease) = change(&env, |_| None).unwrap().what else { panic!() };
    assert_eq!(lease.hostname, None);
    assert_eq!(lease.search, ["a.example", "options"]);
}

#[test]
fn an_interface_that_is_no_name_is_refused() {
    for name in ["", "..", "a/b", "../../etc/x", "eth0 ", "a b"] {
        let env = Env::from([("interface".into(), name.into()), ("reason".into(), "BOUND".into())]);
        assert!(change(&env, |_| None).is_err(), "{name:?}");
    }
}

#[test]
fn leases_of_several_sources_live_and_go_by_themselves() {
    let both = state(&[BOUND, ROUTER]);
    assert_eq!(both.leases.len(), 2);
    let expired = state(&[BOUND, ROUTER, "reason=EXPIRE\ninterface=eth0"]);
    assert_eq!(expired.leases.keys().collect::<Vec<_>>(), [&Source::Router]);
    assert!(!state(&[BOUND, ROUTER, "reason=NOCARRIER\ninterface=eth0"]).has_address());
    // An advertisement that says nothing any more.
    assert_eq!(state(&[ROUTER, "reason=ROUTERADVERT\ninterface=eth0"]).leases.len(), 0);
}

#[test]
fn addresses_stay_when_dhcpcd_ends_because_they_do() {
    assert!(state(&[BOUND, "reason=STOPPED\ninterface=eth0"]).has_address());
}

#[test]
fn the_state_survives_its_file() {
    let state = state(&[BOUND, ROUTER]);
    let text = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
}

#[test]
fn news_is_what_changed() {
    let (none, one, two) = (State::default(), state(&[BOUND]), state(&[BOUND, ROUTER]));
    assert_eq!(news(&none, &one), ["network: eth0 10.9.0.29/24 by DHCP"]);
    assert_eq!(news(&one, &one), [""; 0]);
    assert_eq!(news(&one, &two), ["network: eth0 fd00:5::c861:eaff:fe16:18fe/64 by router advertisement"]);
    let mut gone = one.clone();
    gone.leases.clear();
    assert_eq!(news(&one, &gone), ["network: eth0 10.9.0.29/24 is gone"]);
}

#[test]
fn the_interface_that_dhcpcd_prefers_comes_first() {
    let other = BOUND.replace("eth0", "eth1").replace("1003", "900").replace("10.9.0.29", "10.8.0.1");
    let states = [state(&[BOUND]), state(&[&other])];
    let first = best_first(&states).first().unwrap().addresses[0].to_string();
    assert_eq!(first, "10.8.0.1/24");
}
