"""etc/mksfilter.conf.sample is what oslo-config-generator makes of the options."""

from __future__ import annotations

import io
import re
from pathlib import Path

from oslo_config import generator

SAMPLE = Path(__file__).parents[1] / "etc" / "mksfilter.conf.sample"


def ours(sample: str) -> list[str]:
    """The sections whose words are ours; most of [nova] is keystoneauth's and changes with it."""
    return [part for part in re.split(r"^(?=\[)", sample, flags=re.M) if "[nova]" not in part]


def test_the_sample_is_current():
    conf = generator.cfg.ConfigOpts()
    generator.register_cli_opts(conf)
    conf(["--namespace", "mksfilter", "--wrap-width", "98"])
    made = io.StringIO()
    generator.generate(conf, made)
    assert ours(SAMPLE.read_text()) == ours(made.getvalue()), (
        "run: oslo-config-generator --namespace mksfilter --wrap-width 98 "
        "--output-file etc/mksfilter.conf.sample"
    )
