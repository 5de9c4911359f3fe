# /// rowcast
# api = "checkout"
# role = "authenticated"
# [schema]
# type = "object"
# required = ["order", "amount"]
# properties.order = { type = "string", minLength = 1, maxLength = 60 }
# properties.amount = { type = "number", exclusiveMinimum = 0, maximum = 10000 }
# ///
"""Pay an order: the payment service is asked at once, all else follows from the row."""


async def main(request, g):
    order, amount = request["body"]["order"], request["body"]["amount"]
    # The key is the order's: whoever asks again, after whatever was killed, pays no second time.
    key = {"idempotency-key": f"checkout-{order}"}
    answer = await g.api("payments").post(
        "/charges", json={"order": order, "amount": amount}, headers=key
    )
    if not answer.ok:
        return {"status": 502, "body": {"message": f"the payment failed with {answer.status}"}}
    charge = answer.json()["id"]
    await g.db("shop").execute(
        "insert into checkouts (order_id, amount, charge) values ($1, $2::numeric, $3)"
        " on conflict do nothing",
        order,
        str(amount),
        charge,
    )
    return {"order": order, "charge": charge}
