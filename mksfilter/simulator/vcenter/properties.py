"""What the objects of a vCenter look like over SOAP, made from the inventory."""

from __future__ import annotations

from mksfilter.simulator.model.events import Event
from mksfilter.simulator.model.inventory import VM, Host, VCenter
from mksfilter.simulator.vcenter.soap import Array, Data, Enum, Fault, Ref, Value, version_tuple

__all__ = [
    "POWER_WORDS",
    "about",
    "connection_state",
    "event",
    "host_object",
    "invalid",
    "mks_ticket",
    "options",
    "power_state",
    "read",
    "service_content",
    "service_versions",
    "ticket",
    "vm_object",
]

# The versions of the vim25 name space that clients know by name.
_VERSIONS = [
    *("4.0", "4.1", "5.0", "5.1", "5.5", "6.0", "6.5", "6.7", "6.7.1", "6.7.2", "6.7.3"),
    *("6.8.7", "6.9.1", "7.0.0.0", "7.0.0.2", "7.0.1.0", "7.0.1.1", "7.0.2.0", "7.0.2.1"),
    *("7.0.3.0", "7.0.3.1", "7.0.3.2", "8.0.0.0", "8.0.0.1", "8.0.0.2", "8.0.1.0", "8.0.2.0"),
    *("8.0.3.0", "8.0.3.1", "9.0.0.0"),
]

POWER_WORDS = {"on": "Powered on", "off": "Powered off", "suspended": "Suspended"}
_POWER = {"on": "poweredOn", "off": "poweredOff", "suspended": "suspended"}


def invalid(path: str) -> Fault:
    """The fault for a property that does not exist."""
    return Fault("InvalidProperty", "", name=path)


def read(properties: Data, path: str) -> Value:
    """The value at a dotted *path*; ``None`` when unset.

    :raises Fault: there is no such property.
    """
    value: Value = properties
    for step in path.split("."):
        if value is None:
            return None
        if not isinstance(value, Data) or step not in value:
            raise invalid(path)
        value = value[step]
    return value


def power_state(power: str) -> Enum:
    return Enum("VirtualMachinePowerState", _POWER[power])


def supported_versions(vcenter: VCenter) -> list[str]:
    """The API versions a vCenter speaks, newest first."""
    limit = version_tuple(vcenter.state.api_version)
    return [version for version in reversed(_VERSIONS) if version_tuple(version) <= limit]


def service_versions(vcenter: VCenter) -> bytes:
    """``/sdk/vimServiceVersions.xml``, from which clients choose a version."""
    newest, *older = supported_versions(vcenter)
    prior = "".join(f"<version>{version}</version>" for version in older)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<namespaces version="1.0"><namespace>'
        f"<name>urn:vim25</name><version>{newest}</version>"
        f"<priorVersions>{prior}</priorVersions></namespace></namespaces>"
    ).encode()


def about(vcenter: VCenter) -> Data:
    version = supported_versions(vcenter)[0]
    product = ".".join([*version.split("."), "0"][:3])
    return Data(
        "AboutInfo",
        name="VMware vCenter Server",
        fullName=f"VMware vCenter Server {product} (simulated)",
        vendor="VMware, Inc.",
        version=product,
        build="0",
        localeVersion="INTL",
        localeBuild="000",
        osType="linux-x64",
        productLineId="vpx",
        apiType="VirtualCenter",
        apiVersion=version,
        instanceUuid=vcenter.uuid,
    )


def service_content(vcenter: VCenter) -> Data:
    return Data(
        "ServiceContent",
        rootFolder=Ref("Folder", "group-d1"),
        propertyCollector=Ref("PropertyCollector", "propertyCollector"),
        about=about(vcenter),
        setting=Ref("OptionManager", "VpxSettings"),
        authorizationManager=Ref("AuthorizationManager", "AuthorizationManager"),
        sessionManager=Ref("SessionManager", "SessionManager"),
        searchIndex=Ref("SearchIndex", "SearchIndex"),
        eventManager=Ref("EventManager", "EventManager"),
        viewManager=Ref("ViewManager", "ViewManager"),
    )


def event(logged: Event) -> Data:
    """An event of a console or its ticket, without its message."""
    return Data(
        logged.kind,
        key=logged.key,
        chainId=logged.key,
        createdTime=logged.time,
        userName=logged.user,
        host=Data("HostEventArgument", name=logged.host, host=Ref("HostSystem", "host")),
        vm=Data("VmEventArgument", name=logged.vm.name, vm=Ref("VirtualMachine", logged.moid)),
        template=False,
    )


def options(vcenter: VCenter) -> dict[str, str]:
    return {"VirtualCenter.FQDN": vcenter.fqdn, "VirtualCenter.InstanceName": vcenter.fqdn}


def connection_state(vm: VM) -> str:
    """The VM's ``runtime.connectionState``: its own, or that of its host."""
    if vm.state.connection != "host":
        return vm.state.connection
    esxi = vm.host.state
    return "connected" if esxi.connected and esxi.responding else "disconnected"


def _question(text: str) -> Data | None:
    if not text:
        return None
    choices = [
        Data("ElementDescription", key=str(key), label=label, summary=label)
        for key, label in enumerate(("Retry", "Cancel"))
    ]
    return Data(
        "VirtualMachineQuestionInfo",
        id="1",
        text=text,
        choice=Data("ChoiceOption", choiceInfo=choices, defaultIndex=0),
    )


def vm_object(vm: VM, *, consoles: int) -> Data:
    power = power_state(vm.state.power)
    runtime = Data(
        "VirtualMachineRuntimeInfo",
        host=Ref("HostSystem", vm.host.moid),
        connectionState=Enum("VirtualMachineConnectionState", connection_state(vm)),
        powerState=power,
        question=_question(vm.state.question),
        dasVmProtection=Data(
            "VirtualMachineRuntimeInfoDasProtectionState", dasProtected=vm.state.protected
        ),
        numMksConnections=consoles,
    )
    if version_tuple(vm.vcenter.state.api_version) >= (6, 7):
        runtime["cryptoState"] = None if vm.state.crypto == "none" else vm.state.crypto
    config = Data(
        "VirtualMachineConfigInfo",
        name=vm.name,
        guestFullName="Other Linux (64-bit)",
        version="vmx-19",
        uuid=vm.bios_uuid,
        instanceUuid=vm.state.reported_uuid or vm.uuid,
        template=False,
        guestId="otherLinux64Guest",
        files=Data("VirtualMachineFileInfo", vmPathName=vm.config_path),
        # As Nova's VMware driver writes it.
        annotation=f"name:{vm.name}\nprojectid:{vm.project_id}\n",
        maxMksConnections=vm.state.max_connections,
        extraConfig=Array(
            "OptionValue",
            [
                Data(
                    "OptionValue",
                    key="RemoteDisplay.maxConnections",
                    value=str(vm.state.max_connections),
                )
            ],
        ),
    )
    summary_config = Data(
        "VirtualMachineConfigSummary",
        name=vm.name,
        template=False,
        vmPathName=vm.config_path,
        uuid=vm.bios_uuid,
        instanceUuid=config["instanceUuid"],
    )
    return Data(
        "VirtualMachine",
        name=f"{vm.name}\a" if vm.state.answers == "control-character" else vm.name,
        config=config,
        runtime=runtime,
        summary=Data(
            "VirtualMachineSummary",
            vm=Ref("VirtualMachine", vm.moid),
            runtime=runtime,
            config=summary_config,
        ),
    )


def host_object(esxi: Host, vcenter: VCenter) -> Data:
    """A host; its summary has the name by which tickets call it."""
    named = _host_name(vcenter.state.ticket_host, esxi) or esxi.name
    connection = "connected" if esxi.state.connected else "disconnected"
    if not esxi.state.responding:
        connection = "notResponding"
    return Data(
        "HostSystem",
        name=esxi.name,
        runtime=Data(
            "HostRuntimeInfo",
            connectionState=Enum("HostSystemConnectionState", connection),
            powerState=Enum("HostSystemPowerState", "poweredOn"),
            inMaintenanceMode=esxi.state.maintenance,
        ),
        summary=Data(
            "HostListSummary",
            host=Ref("HostSystem", esxi.moid),
            config=Data(
                "HostConfigSummary",
                name=named,
                port=esxi.port,
                sslThumbprint=esxi.digests["sha1"],
            ),
        ),
    )


def ticket(vm: VM, kind: str, secret: str, version: tuple[int, ...]) -> Data:
    """A ``VirtualMachineTicket``, with the fields that *version* knows."""
    state, esxi = vm.vcenter.state, vm.host
    port = esxi.port if kind == "webmks" else esxi.authd_port
    name = _host_name(state.ticket_host, esxi)
    fields: dict[str, Value] = {
        "ticket": secret,
        "cfgFile": vm.config_file,
        "host": name,
        "port": port if state.ticket_port == "present" else None,
        **_digests(state.ticket_digests, esxi, version),
    }
    wants_url = state.ticket_url == "present" or (state.ticket_url == "auto" and version >= (7,))
    if wants_url and kind == "webmks":
        shown = name or esxi.address
        if ":" in shown:
            shown = f"[{shown}]"
        fields["url"] = f"wss://{shown}:{port}/ticket/{secret}"
    if version >= (9,) and state.ticket_digests == "auto":
        fields["sslCertificate"] = esxi.pem
    if vm.state.answers == "unknown-element":
        fields["quantumThumbprint"] = "00"
    elif vm.state.answers == "unreadable-number":
        fields["port"] = "none"
    elif vm.state.answers == "nothing":
        fields.clear()
    return Data("VirtualMachineTicket", **fields)


def mks_ticket(vm: VM, secret: str) -> Data:
    """What ``AcquireMksTicket`` gave before there were ticket types."""
    return Data(
        "VirtualMachineMksTicket",
        ticket=secret,
        cfgFile=vm.config_file,
        host=_host_name(vm.vcenter.state.ticket_host, vm.host),
        port=vm.host.authd_port,
        sslThumbprint=vm.host.digests["sha1"],
    )


def _host_name(how: str, esxi: Host) -> str | None:
    return {
        "address": esxi.address,
        "name": esxi.name,
        "short": esxi.name.partition(".")[0],
        "absent": None,
        "ipv6": esxi.address6 or "::1",
        "unresolvable": f"{esxi.name.partition('.')[0]}.invalid",
    }[how]


def _digests(how: str, esxi: Host, version: tuple[int, ...]) -> dict[str, Value]:
    sha1, sha256 = esxi.digests["sha1"], esxi.digests["sha256"]
    if how == "auto":
        how = "list" if esxi.strict else "both" if version >= (7, 0, 3, 1) else "sha1"
    if how == "wrong":
        sha1, sha256 = sha1[::-1], sha256[::-1]
    fields: dict[str, Value] = {}
    if how in ("sha1", "both", "wrong"):
        fields["sslThumbprint"] = sha1
    if how in ("list", "both", "wrong"):
        fields["certThumbprintList"] = [
            Data("VirtualMachineCertThumbprint", thumbprint=sha256, hashAlgorithm="sha256")
        ]
    return fields
