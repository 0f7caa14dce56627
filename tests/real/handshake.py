"""What grpcio, which shares no code with the daemon, tells its user of a call: a code and a sentence."""

import os

import grpc


def read(variable):
    with open(os.environ[variable], "rb") as file:
        return file.read()


credentials = grpc.ssl_channel_credentials(read("KEYSTORED_CA"), read("KEYSTORED_KEY"), read("KEYSTORED_CERT"))
channel = grpc.secure_channel(os.environ["KEYSTORED_ADDRESS"].replace("https://", ""), credentials)
try:
    channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=60)
    print("OK")
except grpc.RpcError as error:
    print(error.code().name, error.details())
