# test_orders.py
import base64

import pytest


def test_an_order_is_sealed(kms):
    sealed = kms.encrypt(KeyId="alias/orders", Plaintext=b"3 apples")["CiphertextBlob"]
    assert kms.decrypt(CiphertextBlob=sealed)["Plaintext"] == b"3 apples"


def test_a_disabled_key_seals_nothing(kms):
    kms.disable_key(KeyId="11111111-2222-4333-8444-000000000001")
    kms.create_key()
    with pytest.raises(kms.exceptions.DisabledException):
        kms.encrypt(KeyId="alias/orders", Plaintext=b"3 apples")


def test_every_test_finds_the_same_keys(kms):
    assert kms.describe_key(KeyId="alias/orders")["KeyMetadata"]["Enabled"]
    assert len(kms.list_keys()["Keys"]) == 3


def test_known_material_makes_known_macs(kms):
    mac = kms.generate_mac(KeyId="alias/links", Message=b"order/7", MacAlgorithm="HMAC_SHA_256")["Mac"]
    assert base64.b64encode(mac) == b"LZi9bQEKnzBsjPoTGtQPfrqJGJZStBNKO9JUcEsCdQA="
