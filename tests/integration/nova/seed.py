"""Put servers into Nova's databases with Nova's own objects; runs in the environment's Python.

Usage: ``seed.py PLAN.json``. Prints one JSON object: console tokens of ``console`` plans by
server UUID.
"""

import datetime
import json
import sys

from nova import config, context, exception, objects
from nova.compute import power_state
from nova.network import model as network_model

HOST = "compute1"
COMPUTE_NODE = "0000000c-0000-4000-8000-00000000000c"
LAUNCHED = datetime.datetime(2026, 1, 2, 3, 4, 5)


def main(path):
    with open(path) as file:
        plan = json.load(file)
    config.parse_args(
        ["seed", "--config-file", plan["config_file"]], default_config_files=[plan["config_file"]]
    )
    objects.register_all()
    admin = context.get_admin_context()
    cells = {
        name: _cell(admin, name, url, plan["transport"]) for name, url in plan["cells"].items()
    }
    flavor = _flavor(admin)
    with context.target_cell(admin, cells["cell1"]) as in_cell:
        compute_id = _compute(in_cell)
    try:
        objects.HostMapping.get_by_host(admin, HOST)
    except exception.HostMappingNotFound:
        objects.HostMapping(admin, host=HOST, cell_mapping=cells["cell1"]).create()
    tokens = {}
    for number, server in enumerate(plan["servers"], 1):
        token = _server(admin, plan, cells, flavor, compute_id, number, server)
        if token:
            tokens[server["uuid"]] = token
    print(json.dumps(tokens))


def _cell(admin, name, url, transport):
    for mapping in objects.CellMappingList.get_all(admin):
        if mapping.name == name:
            return mapping
    uuid = objects.CellMapping.CELL0_UUID if name == "cell0" else COMPUTE_NODE
    mapping = objects.CellMapping(
        admin,
        uuid=uuid,
        name=name,
        transport_url="none:///" if name == "cell0" else transport,
        database_connection=url,
    )
    mapping.create()
    return mapping


def _flavor(admin):
    try:
        return objects.Flavor.get_by_flavor_id(admin, "1")
    except exception.FlavorNotFound:
        objects.Flavor(
            admin,
            name="m1.tiny",
            memory_mb=512,
            vcpus=1,
            root_gb=1,
            ephemeral_gb=0,
            swap=0,
            flavorid="1",
            rxtx_factor=1.0,
            vcpu_weight=0,
            disabled=False,
            is_public=True,
            extra_specs={},
        ).create()
        return objects.Flavor.get_by_flavor_id(admin, "1")


def _compute(in_cell):
    """What a nova-compute would have written about itself."""
    service = objects.Service.get_by_host_and_binary(in_cell, HOST, "nova-compute")
    if not service:
        service = objects.Service(
            in_cell, host=HOST, binary="nova-compute", topic="compute", report_count=1
        )
        service.create()
        objects.ComputeNode(
            in_cell,
            host=HOST,
            hypervisor_hostname=HOST,
            service_id=service.id,
            uuid=COMPUTE_NODE,
            vcpus=8,
            memory_mb=16384,
            local_gb=100,
            vcpus_used=0,
            memory_mb_used=0,
            local_gb_used=0,
            hypervisor_type="fake",
            hypervisor_version=1,
            cpu_info="{}",
            cpu_allocation_ratio=4.0,
            ram_allocation_ratio=1.0,
            disk_allocation_ratio=1.0,
            mapped=1,
        ).create()
    return objects.ComputeNode.get_by_host_and_nodename(in_cell, HOST, HOST).id


def _server(admin, plan, cells, flavor, compute_id, number, server):
    project = plan["projects"][server.get("project", "demo")]
    owner = plan["users"]["other" if server.get("project") == "other" else "member"]
    cell = server.get("cell", "cell1")
    token = None
    if cell:
        with context.target_cell(admin, cells[cell]) as in_cell:
            instance = _instance(in_cell, project, owner, flavor, compute_id, number, server)
            instance.create()
            if "console" in server:
                token = _console_token(in_cell, instance, server["console"])
    else:
        instance = _instance(admin, project, owner, flavor, compute_id, number, server)
        _build_request(admin, instance)
    objects.InstanceMapping(
        admin,
        instance_uuid=server["uuid"],
        project_id=project,
        user_id=owner,
        queued_for_delete=False,
        cell_mapping=cells[cell] if cell else None,
    ).create()
    return token


def _instance(where, project, owner, flavor, compute_id, number, server):
    host = server.get("host", HOST)
    instance = objects.Instance(
        where,
        uuid=server["uuid"],
        user_id=owner,
        project_id=project,
        display_name=server["name"],
        display_description="",
        hostname=f"server-{number}",
        vm_state=server.get("vm_state", "active"),
        task_state=server.get("task_state"),
        power_state=power_state.RUNNING,
        host=host,
        node=server.get("node", HOST) if host else None,
        compute_id=compute_id if host else None,
        launched_on=host,
        image_ref=COMPUTE_NODE,
        kernel_id="",
        ramdisk_id="",
        key_name=None,
        memory_mb=flavor.memory_mb,
        vcpus=flavor.vcpus,
        root_gb=flavor.root_gb,
        ephemeral_gb=0,
        instance_type_id=flavor.id,
        reservation_id=f"r-{number:08d}",
        launch_index=0,
        progress=100,
        locked=False,
        config_drive="",
        availability_zone="nova",
        root_device_name="/dev/sda",
        launched_at=LAUNCHED,
        metadata={},
        system_metadata={"image_base_image_ref": COMPUTE_NODE},
        flavor=flavor,
        old_flavor=None,
        new_flavor=None,
        cell_name=None,
        deleted=False,
        shutdown_terminate=False,
        disable_terminate=False,
        access_ip_v4=None,
        access_ip_v6=None,
        os_type=None,
        architecture=None,
        vm_mode=None,
        auto_disk_config=True,
        user_data=None,
        default_ephemeral_device=None,
        default_swap_device=None,
    )
    instance.info_cache = objects.InstanceInfoCache(
        where, instance_uuid=instance.uuid, network_info=network_model.NetworkInfo()
    )
    return instance


def _build_request(admin, instance):
    """A server that waits for the scheduler: it is in no cell yet."""
    instance.created_at = LAUNCHED.replace(tzinfo=datetime.timezone.utc)
    instance.tags = objects.TagList(objects=[])
    instance.security_groups = objects.SecurityGroupList(objects=[])
    instance.keypairs = objects.KeyPairList(objects=[])
    instance.ec2_ids = objects.EC2Ids()
    instance.updated_at = instance.terminated_at = instance.deleted_at = None
    instance.launched_at = instance.launched_on = None
    instance.numa_topology = instance.pci_requests = instance.trusted_certs = None
    instance.hidden = False
    objects.BuildRequest(
        admin,
        instance=instance,
        instance_uuid=instance.uuid,
        project_id=instance.project_id,
        block_device_mappings=objects.BlockDeviceMappingList(objects=[]),
        tags=objects.TagList(objects=[]),
    ).create()


def _console_token(in_cell, instance, console):
    """What nova-compute stores when it is asked for a console."""
    auth = objects.ConsoleAuthToken(
        context=in_cell,
        console_type="webmks",
        host=console["host"],
        port=console["port"],
        internal_access_path=console["internal_access_path"],
        instance_uuid=instance.uuid,
        access_url_base="http://127.0.0.1:6090/",
    )
    return auth.authorize(console.get("ttl", 600))


main(sys.argv[1])
