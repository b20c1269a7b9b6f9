"""Who may have which console, in a pipeline without Nova: oslo.policy with Nova's default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from oslo_config import cfg
from oslo_context import context
from oslo_policy import opts, policy

from mksfilter import config, policies
from mksfilter.exceptions import ConfigurationError

__all__ = ["FULL_CONSOLE", "ConsolePolicy", "get_enforcer"]

FULL_CONSOLE = "os_compute_api:os-remote-consoles"


class ConsolePolicy:
    """Answers which console a caller may have of a project's instance.

    A policy file is read again when it changes; without one there is nothing to look for.
    """

    def __init__(self, policy_file: str = "", *, view_rule: str = policies.VIEW_CONSOLE) -> None:
        """
        :param policy_file: YAML; empty: the defaults, which are Nova's.
        :raises ConfigurationError: it is not there or cannot be read.
        """
        conf = cfg.ConfigOpts()
        conf([], project="mksfilter", default_config_files=[], default_config_dirs=[])
        if policy_file:
            policy_file = os.path.abspath(policy_file)
            if not os.access(policy_file, os.R_OK):
                raise ConfigurationError(f"policy_file {policy_file}: not there, or not readable")
        self._view_rule = view_rule
        self._enforcer = policy.Enforcer(conf, policy_file=policy_file or None)
        # A token's scope has to be the rule's; later releases of oslo.policy always say so.
        if "enforce_scope" in conf.oslo_policy:
            conf.set_override("enforce_scope", True, "oslo_policy")
        conf.set_override("policy_dirs", [], "oslo_policy")
        self._enforcer.register_defaults(_defaults(view_rule))
        try:
            self._enforcer.load_rules(force_reload=True)
        except Exception as exc:
            # oslo.policy and PyYAML have no common base for what a file may be wrong with.
            raise ConfigurationError(
                f"policy_file {policy_file}: {' '.join(str(exc).split())}"
            ) from exc
        # Otherwise each request would search the configuration directories for a file.
        self._enforcer.use_conf = bool(policy_file)

    def console_mode(self, environ: Mapping[str, Any], project_id: str) -> str | None:
        """``full``, ``view``, or None when the caller may have no console.

        :param environ: of a request that keystone's middleware, or another that sets the same
            headers, has let through.
        :param project_id: the instance's.
        """
        caller = context.RequestContext.from_environ(dict(environ), overwrite=False)
        target = {"project_id": project_id}
        if self._enforcer.enforce(FULL_CONSOLE, target, caller):
            return "full"
        if self._enforcer.enforce(self._view_rule, target, caller):
            return "view"
        return None


def get_enforcer() -> policy.Enforcer:
    """For oslo.policy's own programs (entry point ``oslo.policy.enforcer``).

    ``oslopolicy-validator``, ``-policy-generator`` and ``-list-redundant`` with ``--namespace
    mksfilter`` read their ``--config-file`` into the global configuration; of it ``policy_file``
    in ``[mksfilter]`` counts, else the one in ``[oslo_policy]``.
    """
    conf = cfg.CONF
    config.register(conf)
    opts.set_defaults(conf)
    if conf[config.GROUP].policy_file:
        # The validator looks here again.
        conf.set_override("policy_file", conf[config.GROUP].policy_file, "oslo_policy")
    enforcer = policy.Enforcer(conf)
    enforcer.register_defaults(_defaults(conf[config.GROUP].view_role_policy))
    return enforcer


def _defaults(view_rule: str) -> list[policy.RuleDefault]:
    return [
        policy.RuleDefault("context_is_admin", "role:admin"),
        policy.RuleDefault("project_member_api", "role:member and project_id:%(project_id)s"),
        policy.RuleDefault(
            "project_member_or_admin", "rule:project_member_api or rule:context_is_admin"
        ),
        policy.RuleDefault(FULL_CONSOLE, "rule:project_member_or_admin", scope_types=["project"]),
        policies.view_rule(view_rule),
    ]
