"""A Ray of our own beside others on the same machine."""

import subprocess
import sys
from pathlib import Path

from tests.ray_head import RayHead

ROOT = Path(__file__).resolve().parents[2]
# What Ray Train's cleaner does: an actor asks whether another is alive.
ASK = """
import os
import grpc
import ray
from pipelines.platform.cluster import cluster

@ray.remote(num_cpus=0)
class Asking:
    def own(self):
        return ray.get_runtime_context().get_actor_id()
    def state(self, actor):
        from ray.util.state import get_actor
        return get_actor(actor, timeout=60).state

with cluster():
    asking = Asking.remote()
    other = Asking.remote()
    print(ray.get(asking.state.remote(ray.get(other.own.remote()))))
    print([name for name in ("RAY_ADDRESS", "RAY_GCS_SERVER_PORT") if name in os.environ])
    with grpc.insecure_channel(ray.get_runtime_context().gcs_address) as channel:
        try:
            channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")(b"", timeout=60)
        except grpc.RpcError as error:
            print(error.code().name)
"""


def test_another_ray_on_the_machine_does_not_disturb_and_is_left_alone(ray_head: RayHead, tmp_path: Path) -> None:
    # As another user's: our token is not its own.
    (tmp_path / "token").write_text("0" * 64)
    environment = {**ray_head.client, "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    said = done.stdout.split("\n")[:3]
    assert (done.returncode, said) == (0, ["ALIVE", "[]", "UNAUTHENTICATED"]), done.stderr
    assert "multiple active Ray instances" not in done.stderr
    assert "AuthenticationError" not in done.stderr
    status = ["ray", "status", "--address", ray_head.address]
    assert subprocess.run(status, env=ray_head.client, capture_output=True, check=False).returncode == 0
