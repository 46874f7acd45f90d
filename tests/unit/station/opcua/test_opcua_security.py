"""Certificates and users: private keys, a trust list that is read anew, and nobody by default."""

import asyncio
import stat

import pytest

pytest.importorskip("asyncua")

from asyncua import ua
from asyncua.common.utils import ServiceError
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from judo_edge.errors import DependencyError, InputError, StationError
from judo_edge.station import opcua
from judo_edge.station.attempts import FREE_ATTEMPTS
from judo_edge.station.config import station_from_file
from judo_edge.station.opcua import space
from judo_edge.station.opcua.security import Roles, TrustList, Users, application_uri, own_certificate
from judo_edge.station.opcua.space import CALLER, number_of
from judo_edge.station.users import Role, UserStore
from tests.opcua_clients import ENGINEER, PASSWORD, URI, client_certificate, station_file


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    _, path = client_certificate(tmp_path_factory.mktemp("client"))
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_the_key_is_private_and_the_certificate_fits(tmp_path):
    config = station_from_file(station_file(tmp_path))
    key, path = own_certificate(config)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    before = path.read_bytes()
    assert own_certificate(config) == (key, path) and path.read_bytes() == before
    names = x509.load_der_x509_certificate(before).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == [application_uri(config)]


def test_another_host_makes_another_certificate_of_the_same_key(tmp_path):
    config = station_from_file(station_file(tmp_path))
    key, path = own_certificate(config)
    before, secret = path.read_bytes(), key.read_bytes()
    moved = config.opcua.model_copy(update={"advertised": "plc-net.example"})
    own_certificate(config.model_copy(update={"opcua": moved}))
    assert path.read_bytes() != before and key.read_bytes() == secret


def refusal(trust, certificate, uri=URI):
    with pytest.raises(ServiceError) as caught:
        asyncio.run(trust.check(certificate, ua.ApplicationDescription(ApplicationUri=uri)))
    return caught.value.code


def test_an_unknown_certificate_waits_among_the_rejected_until_it_is_moved(tmp_path, certificate, caplog):
    trust = TrustList(tmp_path)
    application = ua.ApplicationDescription(ApplicationUri=URI)
    assert refusal(trust, certificate) == ua.StatusCodes.BadCertificateUntrusted
    (rejected,) = (tmp_path / "rejected").iterdir()
    assert rejected.read_bytes() == certificate.public_bytes(Encoding.DER)
    assert f"do: if it is yours, mv {rejected} {tmp_path / 'trusted'}/" in caplog.text
    (tmp_path / "trusted" / "notes.txt").write_text("no certificate")
    rejected.rename(tmp_path / "trusted" / rejected.name)
    asyncio.run(trust.check(certificate, application))


def test_a_trusted_certificate_of_another_application_is_refused(tmp_path, certificate):
    trust = TrustList(tmp_path, trust_all=True)
    assert refusal(trust, certificate, uri="urn:someone:else") == ua.StatusCodes.BadCertificateUriInvalid


def test_users_need_password_and_trusted_channel(tmp_path, certificate):
    store = UserStore(tmp_path / "users.json")
    store.add(ENGINEER, PASSWORD, Role.ENGINEER)
    trust, der = TrustList(tmp_path), certificate.public_bytes(Encoding.DER)
    users = Users(store, trust)
    assert users.get_user(None, ENGINEER, PASSWORD, der) is None
    (tmp_path / "trusted" / "line.der").write_bytes(der)
    assert users.get_user(None, ENGINEER, PASSWORD, der).station_user.role is Role.ENGINEER
    assert users.get_user(None, ENGINEER, "this is wrong", der) is None
    assert users.get_user(None, ENGINEER, PASSWORD, None) is None
    assert users.get_user(None, "admin", None, der) is None
    assert users.get_user(None, None, None, der) is None


def test_guessing_is_slowed_and_only_for_the_client_that_guesses(tmp_path, certificate):
    store, der = UserStore(tmp_path / "users.json"), certificate.public_bytes(Encoding.DER)
    store.add(ENGINEER, PASSWORD, Role.ENGINEER)
    trust = TrustList(tmp_path)
    (tmp_path / "trusted" / "guesser.der").write_bytes(der)
    _, other = client_certificate(tmp_path / "other")
    other_der = x509.load_pem_x509_certificate(other.read_bytes()).public_bytes(Encoding.DER)
    (tmp_path / "trusted" / "line.der").write_bytes(other_der)
    users = Users(store, trust)
    for number in range(FREE_ATTEMPTS):
        assert users.get_user(None, ENGINEER, f"guess number {number}", der) is None
    assert users.get_user(None, ENGINEER, PASSWORD, der) is None
    assert users.get_user(None, ENGINEER, PASSWORD, other_der) is not None


def test_nobody_changes_the_address_space(tmp_path, certificate):
    store = UserStore(tmp_path / "users.json")
    store.add(ENGINEER, PASSWORD, Role.ENGINEER)
    user = Users(store, TrustList(tmp_path, trust_all=True)).get_user(None, ENGINEER, PASSWORD, b"any")
    ids, roles = ua.ObjectIds, Roles()
    assert roles.check_validity(user, ua.NodeId(ids.CallRequest_Encoding_DefaultBinary), None)
    assert CALLER.get().name == ENGINEER
    assert not roles.check_validity(user, ua.NodeId(ids.AddNodesRequest_Encoding_DefaultBinary), None)
    assert not roles.check_validity(object(), ua.NodeId(ids.ReadRequest_Encoding_DefaultBinary), None)
    assert CALLER.get() is None


def test_error_numbers_are_negative():
    assert [number_of(StationError("x", number=one)) for one in (-30, 30, 0)] == [-30, -30, -1]
    assert number_of(InputError("x")) == -1


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(opcua, "find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=r"judo-edge\[opcua\]"):
        opcua.check_installed()


def test_what_takes_long_goes_on_after_its_method_answered(monkeypatch):
    monkeypatch.setattr(space, "MOMENT", 0.01)
    finished, tasks = [], set()

    async def work(seconds):
        await asyncio.sleep(seconds)
        finished.append(seconds)
        return seconds

    async def run():
        assert await space.done_in_a_moment(work(0), tasks) == 0
        assert await space.done_in_a_moment(work(0.05), tasks) is None
        assert finished == [0]
        await asyncio.gather(*tasks)
        assert finished == [0, 0.05]

    asyncio.run(run())
