# conftest.py
import os
import urllib.request

import boto3
import pytest

URL = os.environ["AWS_ENDPOINT_URL_KMS"]


@pytest.fixture
def kms():
    yield boto3.client("kms", endpoint_url=URL)
    # The next test finds the keys of the seed again, and no others.
    reset = urllib.request.Request(URL + "/_verenc/reset", method="POST", headers={"X-Verenc-Reset": "1"})
    urllib.request.urlopen(reset).close()
