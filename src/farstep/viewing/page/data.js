export async function showData() {}
