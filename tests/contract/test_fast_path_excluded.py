"""What keeps mail from skipping the hop, and how it is told, by the real postconf and postmap."""

import pytest
from fast_path_sites import main, reasons, with_files
from good_postfix import HOLD, REFUSED, REINJECT, TAG_CHECKS
from postfix_files import OURS, Change

POLICY = "a policy service may answer FILTER, REDIRECT or HOLD"
UNKNOWN_MILTER = (
    "may add recipients, or give another sender; if it only adds header fields, name it in fast_path_milters"
)
MACRO = "delivery_pools_fast_path"
OTHER = "is not $config_directory"
FAST: dict[str, str | None] = {"cleanup_service_name": "cleanup-fast"}
RULES = "".join(TAG_CHECKS.values()) + REFUSED + HOLD
ALIAS = "inline:{{a@example.net = b@example.net}}"
CONDITIONS = {
    # ---- other recipients
    "an alias": (main(virtual_alias_maps=ALIAS), f"virtual_alias_maps: {ALIAS}: a@example.net"),
    "an alias by a service": (
        Change(options={"cleanup-fast/unix": {"virtual_alias_maps": ALIAS.replace(" ", "")}}),
        f"cleanup-fast/unix: virtual_alias_maps: {ALIAS.replace(' ', '')}: a@example.net",
    ),
    "an alias by what a service sets": (
        Change(main={"virtual_alias_maps": "$own_maps"}, options={"cleanup-fast/unix": {"own_maps": "static:b"}}),
        "cleanup-fast/unix: virtual_alias_maps: static:b: *",
    ),
    "a whole domain": (
        main(virtual_alias_maps="inline:{{@example.net = b@example.net}}"),
        "virtual_alias_maps: inline:{{@example.net = b@example.net}}: @example.net",
    ),
    "a subdomain of ours": (
        main(virtual_alias_maps="inline:{{@sub.example.org = b@example.org}}"),
        "virtual_alias_maps: inline:{{@sub.example.org = b@example.org}}: @sub.example.org",
    ),
    "bare keys, myorigin is somewhere else": (
        main(myorigin="example.net", virtual_alias_maps="inline:{{root = a@example.net}}"),
        "virtual_alias_maps: inline:{{root = a@example.net}}: root",
    ),
    "a key that is too long to be read": (
        main(virtual_alias_maps=f"inline:{{{{{'a' * 190}@example.org.example.net = b}}}}"),
        f"virtual_alias_maps: inline:{{{{{'a' * 190}@example.org.example.net = b}}}}: {'a' * 190}@exampl...",
    ),
    "a table of a server": (
        main(virtual_alias_maps="tcp:127.0.0.1:9"),
        "virtual_alias_maps: tcp table: what it answers is not known",
    ),
    "a table of an unknown type": (
        main(virtual_alias_maps="unix:passwd.byname"),
        "virtual_alias_maps: unix table: what it answers is not known",
    ),
    "a table that is not there": (
        main(virtual_alias_maps="regexp:{config}/nowhere"),
        "virtual_alias_maps: regexp:nowhere: No such file or directory",
    ),
    "a server behind a pipemap": (
        main(virtual_alias_maps="pipemap:{inline:{{x = y}}, tcp:127.0.0.1:9}"),
        "virtual_alias_maps: tcp table: what it answers is not known",
    ),
    "an answer to everything": (main(virtual_alias_maps="static:b"), "virtual_alias_maps: static:b: *"),
    "an answer at random": (main(virtual_alias_maps="randmap:{b,c}"), "virtual_alias_maps: randmap:{b,c}: *"),
    **{
        f"the pattern {pattern}": (
            with_files(main(virtual_alias_maps="pcre:{config}/p"), p=f"{pattern} b@example.org\n"),
            f"virtual_alias_maps: pcre:p: {pattern.lstrip('!')}",
        )
        for pattern in (
            "/a/",
            r"/@example\.org/",
            r"/@example\.net$/",
            r"/@example.org$/",
            r"/@example\.org\$/",
            r"!/@example\.org$/",
            r"/a|@example\.org$/",
            r"/^(.*)(?=@example\.org$)/",
            r"/@example\.org$/x",
            r"/a\Q@example\.org$/",
            r"|@example\.org$|",
        )
    },
    "recipients rewritten": (
        main(recipient_canonical_maps="inline:{{a@example.net = b@example.org}}"),
        "recipient_canonical_maps: inline:{{a@example.net = b@example.org}}: a@example.net",
    ),
    "canonical maps for recipients": (
        main(canonical_maps="inline:{{a@example.net = b@example.org}}", canonical_classes="envelope_recipient"),
        "canonical_maps: inline:{{a@example.net = b@example.org}}: a@example.net",
    ),
    "recipients masqueraded": (
        main(masquerade_domains="example.org", masquerade_classes="envelope_recipient"),
        "masquerade_domains = example.org, for envelope_recipient",
    ),
    # ---- further recipients
    "copies of all": (main(always_bcc="archive@example.org"), "always_bcc = archive@example.org"),
    "copies by sender": (
        main(sender_bcc_maps="inline:{{alice@example.org = archive@example.org}}"),
        "sender_bcc_maps: inline:{{alice@example.org = archive@example.org}}: alice@example.org",
    ),
    "copies by recipient": (
        main(recipient_bcc_maps="inline:{{@example.com = archive@example.org}}"),
        "recipient_bcc_maps: inline:{{@example.com = archive@example.org}}: @example.com",
    ),
    # ---- another sender
    "senders rewritten": (
        main(sender_canonical_maps="inline:{{alice = alice.smith@example.org}}"),
        "sender_canonical_maps: inline:{{alice = alice.smith@example.org}}: alice",
    ),
    "canonical maps for senders": (
        main(canonical_maps="inline:{{alice@example.org = smith@example.org}}", canonical_classes="envelope_sender"),
        "canonical_maps: inline:{{alice@example.org = smith@example.org}}: alice@example.org",
    ),
    "senders masqueraded": (
        main(masquerade_domains="example.org"),
        "masquerade_domains = example.org, for envelope_sender",
    ),
    "other rewriting for a door": (
        Change(
            options={"submission/inet": {"rewrite_service_name": "rewrite2"}},
            master="rewrite2 unix - - y - - trivial-rewrite\n",
        ),
        "submission/inet: rewrite_service_name = rewrite2: other addresses and routes than everybody else's",
    ),
    # ---- another way
    "a content filter": (
        Change(main={"content_filter": "scan:[127.0.0.1]:10024"}, master=REINJECT),
        "smtp/inet: content_filter = scan:[127.0.0.1]:10024: its mail would pass that by",
    ),
    "a proxy": (
        Change(
            options={"submission/inet": {"smtpd_proxy_filter": "127.0.0.1:10024"}},
            main={"smtpd_authorized_xclient_hosts": "127.0.0.1"},
        ),
        "submission/inet: smtpd_proxy_filter = 127.0.0.1:10024: its mail would pass that by",
    ),
    **{
        f"{parameter} {action}": (
            main(**{parameter: f"regexp:{{{{/^X/ {action}}}}}"}),
            f"{parameter}: regexp:{{{{/^X/ {action}}}}}: /^X/ {action}",
        )
        for parameter in ("header_checks", "mime_header_checks", "nested_header_checks", "body_checks")
        for action in ("HOLD", "BCC a@example.org", "REDIRECT a@example.org", "FILTER discard:")
    },
    "the site's milter_header_checks": (
        Change(
            options={
                "cleanup-fast/unix": {"milter_header_checks": "regexp:$config_directory/delivery-pools/tag_checks"}
            },
            files={"delivery-pools/tag_checks": RULES + "/^X-Spam: yes/ HOLD\n"},
        ),
        "cleanup-fast/unix: milter_header_checks: regexp:delivery-pools/tag_checks: /^X-Spam: yes/ HOLD",
    ),
    **{
        f"smtpd_{stage}_restrictions {action}": (
            main(**{f"smtpd_{stage}_restrictions": f"check_client_access inline:{{{{x = {action}}}}}"}),
            f"smtpd_{stage}_restrictions: inline:{{{{x = {action}}}}}: x {action}",
        )
        for stage, action in (
            ("client", "HOLD"),
            ("helo", "filter discard:"),
            ("sender", "REDIRECT a@example.org"),
            ("relay", "BCC a@example.org"),
            ("recipient", "check_sender_access hash:/nowhere"),
            ("data", "inline:{{a=b}}"),
        )
    },
    "an action that is made of the key": (
        with_files(main(smtpd_client_restrictions="check_client_access regexp:{config}/p"), p="/(.*)/ $1\n"),
        "smtpd_client_restrictions: regexp:p: /(.*)/ $1",
    ),
    "access by a server": (
        main(smtpd_recipient_restrictions="check_recipient_access tcp:127.0.0.1:9"),
        "smtpd_recipient_restrictions: tcp table: what it answers is not known",
    ),
    "a restriction class": (
        main(
            smtpd_restriction_classes="strict",
            strict="check_sender_access inline:{{a@example.org = HOLD}}",
            smtpd_client_restrictions="check_client_access inline:{{192.0.2.1 = strict}}",
        ),
        "strict: inline:{{a@example.org = HOLD}}: a@example.org HOLD",
    ),
    **{
        f"a policy service, {stage}": (
            main(**{f"smtpd_{stage}_restrictions": "check_policy_service inet:127.0.0.1:10023"}),
            f"smtpd_{stage}_restrictions: inet:127.0.0.1:10023: {POLICY}",
        )
        for stage in ("client", "helo", "relay", "recipient", "data")
    },
    "ours answers otherwise while it is down": (
        main(delivery_pools_policy="{ unix:delivery-pools/policy.sock, default_action=HOLD }"),
        "smtpd_sender_restrictions: unix:delivery-pools/policy.sock: default_action = HOLD",
    ),
    # ---- other milters
    "a milter behind ours": (
        main(smtpd_milters=f"{OURS}, inet:127.0.0.1:8891"),
        "smtpd_milters: inet:127.0.0.1:8891 comes after ours",
    ),
    "a milter in front of ours": (
        main(smtpd_milters=f"inet:127.0.0.1:8891, {OURS}"),
        f"smtpd_milters: inet:127.0.0.1:8891 {UNKNOWN_MILTER}",
    ),
    "milters by client": (
        main(smtpd_milter_maps="cidr:{{10.0.0.0/8 inet:127.0.0.1:8891}}"),
        "smtpd_milter_maps: cidr:{{10.0.0.0/8 inet:127.0.0.1:8891}}: 10.0.0.0/8 inet:127.0.0.1:8891",
    ),
    # ---- not set up
    "another default route": (main(default_transport="pool-normal"), "default_transport = pool-normal: not the hop"),
    "routes of a server": (
        main(virtual_mailbox_domains="tcp:127.0.0.1:9"),
        "virtual_mailbox_domains: tcp table: what it answers is not known",
    ),
    "no door": (
        Change(options={name: {"cleanup_service_name": "cleanup"} for name in ("smtp/inet", "submission/inet")}),
        "no smtpd service has the fast path; delivery-pools postfix install sets it up",
    ),
    "a door without the macro": (
        Change(options={"smtp/inet": {"cleanup_service_name": "cleanup-fast", "milter_macro_defaults": ""}}),
        "smtp/inet: cleanup_service_name = cleanup-fast, but milter_macro_defaults lacks delivery_pools_fast_path",
    ),
    "a door without the cleanup service": (
        Change(
            options={
                "smtp/inet": {
                    "cleanup_service_name": "cleanup",
                    "milter_macro_defaults": "{delivery_pools_fast_path}=$config_directory",
                }
            }
        ),
        "smtp/inet: milter_macro_defaults has delivery_pools_fast_path, but cleanup_service_name = cleanup",
    ),
    "a door with the macro of an earlier version": (
        Change(options={"smtp/inet": FAST | {"milter_macro_defaults": f"{MACRO}=yes"}}),
        f"smtp/inet: cleanup_service_name = cleanup-fast, but {MACRO} = yes in milter_macro_defaults {OTHER}",
    ),
    "a door with the name of another instance": (
        Change(options={"smtp/inet": FAST | {"milter_macro_defaults": f"{MACRO}=/etc/other"}}),
        f"smtp/inet: cleanup_service_name = cleanup-fast, but {MACRO} = /etc/other in milter_macro_defaults {OTHER}",
    ),
    "the name of another instance, and no cleanup service": (
        Change(
            options={
                "smtp/inet": {
                    "cleanup_service_name": "cleanup",
                    "milter_macro_defaults": f"{MACRO}=/etc/other",
                }
            }
        ),
        "smtp/inet: milter_macro_defaults has delivery_pools_fast_path, but cleanup_service_name = cleanup",
    ),
    "no such cleanup service": (Change(without=("cleanup-fast/unix",)), "smtp/inet: it has no cleanup service"),
    "no rules for the tag": (
        Change(options={"cleanup-fast/unix": {"milter_header_checks": None}}),
        "cleanup-fast/unix: milter_header_checks = (empty): no rules for the tag",
    ),
    "a rule that leads to another pool": (
        Change(
            options={"cleanup-fast/unix": {"milter_header_checks": "regexp:{config}/own"}},
            files={"own": RULES.replace("FILTER pool-relay:", "FILTER pool-normal:")},
        ),
        None,
    ),
    "a content filter in the cleanup service": (
        Change(options={"cleanup-fast/unix": {"content_filter": "scan:[127.0.0.1]:10024"}}),
        "cleanup-fast/unix: content_filter = scan:[127.0.0.1]:10024",
    ),
    "the site's cleanup service does more": (
        Change(options={"cleanup/unix": {"header_checks": "regexp:{{/^X/REJECT}}"}}),
        "cleanup-fast/unix: header_checks = ; cleanup has regexp:{{/^X/REJECT}}",
    ),
    "the macro in main.cf": (
        main(milter_macro_defaults="delivery_pools_fast_path=$config_directory"),
        "main.cf: milter_macro_defaults has delivery_pools_fast_path: every service says it",
    ),
    "the macro on the listener": (
        Change(options={"127.0.0.1:10027/inet": {"milter_macro_defaults": f"{MACRO}=$config_directory"}}),
        "127.0.0.1:10027/inet: milter_macro_defaults has delivery_pools_fast_path",
    ),
    "requeued mail by the fast path": (
        Change(options={"pickup/unix": {"cleanup_service_name": "cleanup-fast"}}),
        "pickup/unix: cleanup_service_name = cleanup-fast",
    ),
}


@pytest.mark.parametrize(("change", "expected"), CONDITIONS.values(), ids=CONDITIONS.keys())
def test_what_excludes_it(tmp_path, change, expected):
    found = reasons(tmp_path / "etc", change)
    assert found
    if expected is not None:
        assert expected in found
