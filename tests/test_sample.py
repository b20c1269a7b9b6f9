"""etc/mksfilter.conf.sample is what oslo-config-generator makes of the options."""

from __future__ import annotations

import io
from pathlib import Path

from oslo_config import generator

SAMPLE = Path(__file__).parents[1] / "etc" / "mksfilter.conf.sample"


def test_the_sample_is_current():
    conf = generator.cfg.ConfigOpts()
    generator.register_cli_opts(conf)
    conf(["--namespace", "mksfilter", "--wrap-width", "98"])
    made = io.StringIO()
    generator.generate(conf, made)
    assert SAMPLE.read_text() == made.getvalue(), (
        "run: oslo-config-generator --namespace mksfilter --wrap-width 98 "
        "--output-file etc/mksfilter.conf.sample"
    )
