"""Who may do what in the local AWS: every call is decided here, between decoding and its handler.

`caller.py` says who asks and which policies apply, the rooms `ec2.py`, `iam.py`, `sts.py` and `others.py` which
permissions a call needs, on which resources and with which condition keys; `policy.decision` decides, `refusal.py`
words AWS's answer, and `authorizer.py` is the way through them.
"""
