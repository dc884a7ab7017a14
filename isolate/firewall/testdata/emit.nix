networking.nftables.tables.rcc = {
  family = "inet";
  content = ''
    counter excepted {
    }

    counter refused4 {
    }

    counter refused6 {
    }

    set private4 {
      type ipv4_addr
      flags interval
      elements = {
        0.0.0.0/8,
        10.0.0.0/8,
        100.64.0.0/10,
        127.0.0.0/8,
        168.63.129.16,
        169.254.0.0/16,
        172.16.0.0/12,
        192.0.0.0/24,
        192.168.0.0/16,
        198.18.0.0/15,
        224.0.0.0/4,
        240.0.0.0/4,
      }
    }

    set private6 {
      type ipv6_addr
      flags interval
      elements = {
        ::/96,
        ::ffff:0.0.0.0/96,
        64:ff9b::/104,
        64:ff9b::a00:0/104,
        64:ff9b::6440:0/106,
        64:ff9b::7f00:0/104,
        64:ff9b::a83f:8110,
        64:ff9b::a9fe:0/112,
        64:ff9b::ac10:0/108,
        64:ff9b::c000:0/120,
        64:ff9b::c0a8:0/112,
        64:ff9b::c612:0/111,
        64:ff9b::e000:0/100,
        64:ff9b::f000:0/100,
        64:ff9b:1::/48,
        100::/64,
        2001::/32,
        2002::/24,
        2002:a00::/24,
        2002:6440::/26,
        2002:7f00::/24,
        2002:a83f:8110::/48,
        2002:a9fe::/32,
        2002:ac10::/28,
        2002:c000::/40,
        2002:c0a8::/32,
        2002:c612::/31,
        2002:e000::/20,
        2002:f000::/20,
        fc00::/7,
        fe80::/10,
        fec0::/10,
        ff00::/8,
      }
    }

    chain tasks {
      ip daddr 10.1.2.0/24 tcp dport 5432 counter name "excepted" accept comment "10.1.2.0/24:5432"
      ip6 daddr fd00::1 counter name "excepted" accept comment "fd00::1"
      ip daddr @private4 counter name "refused4" reject with icmpx admin-prohibited
      ip6 daddr @private6 counter name "refused6" reject with icmpx admin-prohibited
    }

    chain output {
      type filter hook output priority filter; policy accept;
      meta skuid 1879048192-2147483647 goto tasks
    }
  '';
};
