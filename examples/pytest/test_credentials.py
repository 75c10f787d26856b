import boto3


def who_am_i(session):
    return session.client("sts").get_caller_identity()["Arn"]


def test_a_new_session_is_picked_up(control):
    session = boto3.Session()
    before = session.get_credentials().get_frozen_credentials().access_key
    control("POST", "/tasks/exec/expire")  # the one before is worth nothing from here on
    assert ":assumed-role/demo/" in who_am_i(session)
    assert session.get_credentials().get_frozen_credentials().access_key != before


def test_two_failures_are_ridden_out(control):
    control("PUT", "/faults", {"faults": ["exec:status=503,times=2"]})
    assert ":assumed-role/demo/" in who_am_i(boto3.Session())
    noted = control("GET", "/journal?task=exec&place=credentials")["entries"]
    assert [entry["status"] for entry in noted][:3] == [503, 503, 200]
