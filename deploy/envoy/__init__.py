"""The edge: one Envoy configuration, `envoy.yaml`, for this machine, compose and Kubernetes; its routes come from the
contract.

deploy.envoy.routes turns the policy of every method and HTTP route into routes; deploy.envoy.config fills the
template with them and with addresses. Nothing else reaches a service from outside, and a method that nobody declared
has no route.
"""
